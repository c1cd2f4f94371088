// SPDX-License-Identifier: MIT

// echo_go PORT: an echo server with a goroutine for each client.
package main

import (
	"log"
	"net"
	"os"
)

func echo(client net.Conn) {
	defer client.Close()
	buffer := make([]byte, 1024)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if _, err = client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(client)
	}
}
