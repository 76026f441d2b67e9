"""A server's mechanisms by name: what is said where a name, or what it needs, is not there."""

from __future__ import annotations

from typing import Any

import pytest

from saslwrap import GSSAPIServer, UsageError
from saslwrap.testing import LDAPServer
from tests.ldap_bed import connected, make_server
from tests.test_imports import _WITHOUT_EXTRAS as WITHOUT_EXTRAS
from tests.test_imports import run_python

EXTRA = "pip install 'saslwrap[gssapi]'"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mechanisms": ["CRAM-MD5"]}, "'CRAM-MD5' is not known by name; these are: DIGEST-MD5, "),
        ({"mechanisms": "GSSAPI"}, r"takes several names: mechanisms=\['GSSAPI'\]"),
        ({"mechanisms": b"GSSAPI"}, "takes several names"),
        ({"mechanisms": ["GSSAPI\r\n"]}, r"^a mechanism's name is 1 to 20 .* not 'GSSAPI\\r\\n'$"),
        ({"mechanisms": ["DIGEST-MD5", "digest-md5"]}, "^mechanisms has DIGEST-MD5 twice"),
        ({"mechanisms": ["DIGEST-MD5"], "host": "two words"}, "host"),
        ({"mechanisms": {}, "tls_server_end_point": b"hash"}, "leave tls_server_end_point"),
    ],
    ids=str,
)
def test_mechanisms_that_cannot_be_had(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        LDAPServer({}, **options)


@pytest.mark.anyio
async def test_names_in_any_case_and_any_iterable() -> None:
    async with connected(make_server(mechanisms=iter(["digest-md5"]))) as client:
        await client.log_in()
        entries, _ = await client.search("", attributes=[b"supportedSASLMechanisms"])
        assert entries[""]["supportedSASLMechanisms"] == [b"DIGEST-MD5"]


def test_a_binding_that_is_none() -> None:
    pytest.importorskip("spnego")
    binding: Any = "hash"
    with pytest.raises(UsageError, match="tls_server_end_point is the hash"):
        LDAPServer({}, mechanisms=["GSSAPI"], tls_server_end_point=binding)


def test_what_is_missing_is_said_to_who_starts_the_server() -> None:
    code = """
        from saslwrap import MechanismUnavailableError
        from saslwrap.testing import LDAPServer

        LDAPServer({}, mechanisms=["DIGEST-MD5"])
        for name in "GSSAPI", "GSS-SPNEGO":
            try:
                LDAPServer({}, mechanisms=[name])
            except MechanismUnavailableError as error:
                print(error)
    """
    lines = run_python(code, prelude=WITHOUT_EXTRAS)
    assert [EXTRA in line for line in lines] == [True, True]


def test_a_factory_of_ones_own_is_left_alone() -> None:
    """It is not called before a client wants to log in."""

    def make() -> GSSAPIServer:
        raise AssertionError("nobody wants to log in")

    assert LDAPServer({}, mechanisms={"GSSAPI": make}).mechanisms == {"GSSAPI": make}
