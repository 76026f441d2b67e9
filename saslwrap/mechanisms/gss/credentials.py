"""Who a GSS mechanism logs in as, and where: what the caller of a mechanism gave."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field, replace
from typing import Any

from saslwrap.errors import UsageError, require_kind
from saslwrap.mechanisms.names import (
    check_encodable,
    check_host,
    check_service,
    check_text,
    require_str,
)
from saslwrap.properties import ChannelInfo

__all__ = ["GSSCredentials", "Peer", "Source"]


@dataclass(frozen=True, slots=True)
class Peer:
    """What a context is for: one side of one service.

    :param bindings: the hash of tls-server-end-point, None without TLS
    :raises UsageError: a name that cannot be part of a principal
    """

    service: str
    host: str
    is_client: bool
    bindings: bytes | None = None

    def __post_init__(self) -> None:
        check_service(self.service)
        check_host(self.host)
        if set(self.host) & set(":@*"):
            raise UsageError(
                f"host is the server's name, as in its principal, not {self.host!r}: no address, "
                "no port, no realm"
            )
        if self.bindings is not None and not (isinstance(self.bindings, bytes) and self.bindings):
            raise UsageError("tls_server_end_point is the hash that channel_binding makes: bytes")

    def bound_to(self, channel: ChannelInfo) -> Peer:
        """Give the same over this channel; what is known already stays."""
        return replace(self, bindings=self.bindings or channel.tls_server_end_point)


class Source(enum.Enum):
    """Where a client's credentials come from."""

    PASSWORD = enum.auto()
    CACHE = enum.auto()
    KEYTAB = enum.auto()
    SYSTEM = enum.auto()


def _check_place(name: str, place: str) -> None:
    if not place:
        raise UsageError(f"{name} is empty; None takes the system's")
    check_encodable(name, place)
    _check_uncut(name, place)


def _check_uncut(name: str, value: str) -> None:
    if "\0" in value:
        raise UsageError(f"{name} has a NUL in it, where Kerberos would cut it")


@dataclass(slots=True)
class GSSCredentials:
    """A password, a ticket cache, a keytab, or what the system has; looked up when it is used.

    A password may have lone surrogates in it, as those of Active Directory's machine accounts do:
    pyspnego sends them as Windows does.

    :raises UsageError: parts contradict each other, or cannot be sent
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    credential_cache: str | os.PathLike[str] | None = None
    keytab: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.username is not None:
            check_text("username", self.username)
        if self.password is not None:
            require_str("password", self.password)
            _check_uncut("password", self.password)
            if self.username is None:
                raise UsageError("a password goes with a username")
            if not self.password:
                raise UsageError("the password is empty")
        given = (self.password, self.credential_cache, self.keytab)
        for name in ("credential_cache", "keytab"):
            place = getattr(self, name)
            require_kind(name, place, str | os.PathLike | None)
            if place is not None:
                _check_place(name, os.fspath(place))
        if sum(one is not None for one in given) > 1:
            raise UsageError("give one of password, credential_cache and keytab, not several")

    @property
    def source(self) -> Source:
        """Where they come from."""
        if self.password is not None:
            return Source.PASSWORD
        if self.credential_cache is not None:
            return Source.CACHE
        return Source.SYSTEM if self.keytab is None else Source.KEYTAB

    def forget(self) -> None:
        """Drop the password."""
        self.password = None

    def of_client(self, spnego: Any) -> Any:
        """The same in pyspnego's words, for a client.

        A password is passed as an object: pyspnego takes a string of the form `LM:NT` for hashes.
        """
        if self.password is not None:
            return spnego.Password(self.username, self.password)
        if self.credential_cache is not None:
            return spnego.KerberosCCache(os.fspath(self.credential_cache), self.username)
        if self.keytab is not None:
            return spnego.KerberosKeytab(os.fspath(self.keytab), self.username)
        return spnego.CredentialCache(self.username)

    def of_server(self, spnego: Any, service: str, host: str) -> Any:
        """The same for a server: the account that runs it, or the key of this service alone."""
        if self.password is not None:
            return spnego.Password(self.username, self.password)
        return spnego.CredentialCache(f"{service}@{host}")
