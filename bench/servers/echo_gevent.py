#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""echo_gevent.py PORT: an echo server with a greenlet for each client."""
import socket
import sys

from gevent.server import StreamServer


def echo(client, address):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := client.recv(1024):
            client.sendall(data)
    except ConnectionResetError:
        pass


StreamServer(("127.0.0.1", int(sys.argv[1])), echo, backlog=4096).serve_forever()
