"""The face that each client has here: it logs in and reads what the server has, or fails.

It fails in its library's way; what that is, each one says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

from saslwrap import DigestMD5Client
from saslwrap.testing.pairs import HOST, PASSWORD, USERNAME

SECRETS = [f"hidden {number}" for number in range(3)]

ADDRESS = "127.0.0.1"
PATIENCE = 20


class Client(ABC):
    """One connection.

    :cvar errors: what the library raises where our layer failed, with our error in the chain or,
        if `only_words`, its words
    :cvar ended: what it raises where the server ended the connection, for any reason
    :cvar afterwards: what it says where nobody waited when the layer failed
    """

    errors: ClassVar[tuple[type[Exception], ...]]
    only_words: ClassVar[bool] = False
    ended: ClassVar[tuple[type[Exception], ...]]
    afterwards: ClassVar[tuple[str, ...]] = ()
    service: ClassVar[str]

    @classmethod
    @abstractmethod
    def serve(cls) -> AbstractContextManager[int]:
        """Serve `SECRETS` to `USERNAME`, at the port that this gives."""

    @classmethod
    def mechanism(cls) -> DigestMD5Client:
        return DigestMD5Client(USERNAME, PASSWORD, service=cls.service, host=HOST)

    def __init__(self, port: int) -> None:
        self._port = port

    @abstractmethod
    async def log_in(self) -> None:
        """Connect and log in, for the first time."""

    @abstractmethod
    async def read(self) -> list[str]:
        """Read `SECRETS`."""

    async def again(self) -> None:
        """Log in anew, as the library has it, after the connection failed."""
        raise NotImplementedError

    @abstractmethod
    async def leave(self) -> None:
        """Say goodbye, as the protocol has it."""

    @abstractmethod
    async def close(self) -> None:
        """Close at once; again, it does nothing."""
