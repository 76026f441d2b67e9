"""The socket shell: a security layer over a blocking socket, for clients that are not async."""

from saslwrap.sync.socket import SASLSocket, authenticate_socket

__all__ = ["SASLSocket", "authenticate_socket"]
