"""A login, a search of the root and the end, at a slapd on the loopback: ours beside ldapsearch.

Ours is a socket in a process that runs already. ldapsearch is a process that starts, loads its
libraries and ends: that is how it is used.
"""

from __future__ import annotations

import resource
import socket
from pathlib import Path
from time import perf_counter

from saslwrap import DigestMD5Client
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.sync import authenticate_socket
from tests.bench.cost import Contestant, Cost, timed
from tests.peers.ldap_client import messages, search_request
from tests.peers.slapd import Slapd, ldapsearch
from tests.peers.support import program

__all__ = ["Server", "our_login", "their_login"]

SECURITY = "minssf=128,maxssf=128"


class Server:
    """A slapd, until it is closed."""

    def __init__(self, folder: Path) -> None:
        for name in (*Slapd.programs, "ldapsearch"):
            program(name)  # raises what to install
        self.slapd = Slapd()
        self.slapd.__enter__()

    def close(self) -> None:
        self.slapd.__exit__(None, None, None)


def our_login(slapd: Slapd) -> Contestant:
    """Log in so many times."""

    def once() -> None:
        sock = socket.create_connection((slapd.address, slapd.port))
        user = slapd.credentials
        mechanism = DigestMD5Client(user.username, user.password, service="ldap", host=slapd.host)
        with authenticate_socket(sock, LDAPBind(mechanism)) as sealed:
            sealed.sendall(search_request(2, ""))
            buffer = bytearray()
            while not any(one.operation == "searchResDone" for one in messages(buffer)):
                buffer += sealed.recv(65536)

    return lambda count: sum((timed(once) for _ in range(count)), Cost(0, 0)) / count


def their_login(slapd: Slapd) -> Contestant:
    """Run ldapsearch so many times; its CPU time is what the system counts for children."""

    def contestant(count: int) -> Cost:
        wall, cpu = perf_counter(), _children()
        for _ in range(count):
            done = ldapsearch(slapd.url, "-s", "base", base="", security=SECURITY)
            done.check_returncode()
        return Cost(perf_counter() - wall, _children() - cpu) / count

    return contestant


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
