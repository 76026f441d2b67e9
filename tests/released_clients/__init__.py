"""Client libraries as they are released, each under our layer, behind one face."""

from __future__ import annotations

from tests.released_clients.client import Client
from tests.released_clients.imap import Aioimaplib, Imaplib
from tests.released_clients.ldap import AnyldapClient, AnyldapObject, Badldap, Ldap3
from tests.released_clients.pop3 import Poplib
from tests.released_clients.smtp import Aiosmtplib, Smtplib

CLIENTS: dict[str, type[Client]] = {
    "ldap3": Ldap3,
    "anyldap": AnyldapObject,
    "anyldap's client": AnyldapClient,
    "badldap": Badldap,
    "imaplib": Imaplib,
    "aioimaplib": Aioimaplib,
    "poplib": Poplib,
    "smtplib": Smtplib,
    "aiosmtplib": Aiosmtplib,
}

RECONNECTING = [name for name, kind in CLIENTS.items() if kind.again is not Client.again]
"""Those that log in anew in the same object."""
