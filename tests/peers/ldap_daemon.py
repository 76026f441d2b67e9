"""What the LDAP servers under test share: two ports, their URLs, and a certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.certificate import CERTIFICATE, KEY
from tests.peers.daemon import Daemon

if TYPE_CHECKING:
    from pathlib import Path


class LDAPDaemon(Daemon):
    """One whose services are `ldap`, the first of them, and `ldaps`."""

    @property
    def tls_port(self) -> int:
        return self.ports["ldaps"]

    @property
    def url(self) -> str:
        return f"ldap://{self.host}:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://{self.host}:{self.tls_port}"

    @property
    def certificate(self) -> Path:
        """The server's certificate for `host`, which is its own issuer."""
        return self.folder / CERTIFICATE

    @property
    def key(self) -> Path:
        return self.folder / KEY
