"""A login for the tests of IMAP clients."""

from __future__ import annotations

from saslwrap import SecurityProperties
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.testing.pairs import PASSWORD, USERNAME


def make_mechanism(
    username: str = USERNAME,
    password: str = PASSWORD,
    properties: SecurityProperties = SecurityProperties(),  # noqa: B008 - frozen
) -> DigestMD5Client:
    return DigestMD5Client(
        username, password, service="imap", host="localhost", properties=properties
    )
