"""Blocking sockets, sealed after a login: both ends in one process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

from saslwrap.exchange import Exchange
from saslwrap.sync import SASLSocket, authenticate_socket
from saslwrap.testing.tasks import succeeded

__all__ = ["SocketPair", "authenticated_sockets"]

T = TypeVar("T")


class SocketPair(NamedTuple):
    """Both ends' sealed sockets."""

    client: SASLSocket
    server: SASLSocket


def authenticated_sockets(
    client: Exchange,
    server: Exchange,
    *,
    sockets: tuple[socket.socket, socket.socket] | None = None,
    timeout: float = 30,
) -> SocketPair:
    """Let two exchanges log in to each other over two sockets; the server's in a thread.

    :param client: the client's half, `LDAPBind(mechanism)` for one
    :param server: the server's half
    :param sockets: the client's and the server's, connected to each other; a `socketpair`, without.
        They are closed if the login fails
    :param timeout: seconds that a call on either socket may take, from now on
    :raises Exception: what the client's side raised, with the server's as its cause, or the
        server's
    """
    at_client, at_server = socket.socketpair() if sockets is None else sockets
    for end in (at_client, at_server):
        end.settimeout(timeout)
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(_outcome, partial(authenticate_socket, at_server, server))
        ours = _outcome(partial(authenticate_socket, at_client, client))
        theirs = serving.result()
    try:
        return SocketPair(*succeeded(ours, theirs))
    except Exception:
        at_client.close()
        at_server.close()
        raise


def _outcome(call: Callable[[], T]) -> T | Exception:
    try:
        return call()
    except Exception as error:
        return error
