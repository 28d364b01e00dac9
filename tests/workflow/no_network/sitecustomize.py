"""Refuses the network to every Python that has this folder in its PYTHONPATH."""

import socket

connect = socket.socket.connect


def refuse(self, address):
    if self.family != socket.AF_UNIX:
        raise OSError(f"the network is blocked, but something called {address}")
    return connect(self, address)


def unknown(*_, **__):
    raise OSError("the network is blocked")


socket.socket.connect = refuse
socket.getaddrinfo = unknown
