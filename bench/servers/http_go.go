// SPDX-License-Identifier: MIT

// http_go PORT DIRECTORY: a web server by net/http.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.FileServer(http.Dir(os.Args[2]))))
}
