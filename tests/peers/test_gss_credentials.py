"""Every kind of credentials that a Kerberos login takes, on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from saslwrap.anyio import SASLAttribute, authenticate
from saslwrap.errors import AuthenticationError, MechanismUnavailableError
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import LDAPServer
from tests.peers.directory import ALICE
from tests.peers.gss_bed import (
    GSSAPI,
    PASSWORD,
    SPNEGO,
    SPNEGO_OR_NTLM,
    Bed,
    Kind,
    check_readable,
    check_secrets,
)
from tests.peers.gss_bed import bed as bed
from tests.peers.kdc import BOB
from tests.peers.ldap_client import LDAPClient
from tests.peers.support import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from saslwrap.mechanism import ClientMechanism

pytestmark = pytest.mark.timeout(60)

ALICE_OF_REALM = "alice@EXAMPLE.COM"

every_kind = pytest.mark.parametrize("kind", [GSSAPI, SPNEGO, SPNEGO_OR_NTLM], ids=str)


def who_logs_in(kind: Kind, client: ClientMechanism, *, service: str = "ldap") -> str:
    """Log in to a server of the same kind; say whom it sees. The login seals, by Kerberos."""
    made: list[Any] = []

    def make() -> Any:
        made.append(kind.server(service=service))
        return made[-1]

    async def main() -> str:
        async with (
            LDAPServer({}, mechanisms={kind.name: make}) as server,
            await anyio.connect_tcp(LOOPBACK, server.port) as tcp,
        ):
            stream = await authenticate(tcp, LDAPBind(client))
            assert stream.extra(SASLAttribute.ssf) == 256
            assert stream.extra(SASLAttribute.authcid) == client.authcid
            who = await LDAPClient(stream).who_am_i()
            assert who == f"u:{made[0].authcid}"
            return who.removeprefix("u:")

    return anyio.run(main)


# A password


@every_kind
@pytest.mark.parametrize("username", ["alice", ALICE_OF_REALM])
def test_a_password(bed: Bed, kind: Kind, username: str) -> None:
    client = kind.client(username=username, password=ALICE.password)
    assert who_logs_in(kind, client) == ALICE_OF_REALM
    assert client.authcid == username
    assert not bed.cache.exists()


@every_kind
def test_a_password_beyond_ascii(bed: Bed, kind: Kind) -> None:
    user = bed.new_user()
    assert not PASSWORD.isascii()
    assert who_logs_in(kind, kind.client(username=user, password=PASSWORD)) == f"{user}@EXAMPLE.COM"


@every_kind
@pytest.mark.usefixtures("alice_ticket")
def test_a_password_comes_before_the_ticket_that_is_there(kind: Kind) -> None:
    client = kind.client(username=BOB.username, password=BOB.password)
    assert who_logs_in(kind, client) == "bob@EXAMPLE.COM"


@every_kind
def test_a_password_that_looks_like_hashes(bed: Bed, kind: Kind) -> None:
    hashes = f"{'0' * 32}:{'1' * 32}"
    bed.realm.add_principal(user := f"{bed.new_user()}-hash", hashes)
    assert who_logs_in(kind, kind.client(username=user, password=hashes)) == f"{user}@EXAMPLE.COM"


# Tickets


@every_kind
@pytest.mark.parametrize("username", [None, "alice", ALICE_OF_REALM])
@pytest.mark.usefixtures("alice_ticket")
def test_the_default_cache(kind: Kind, username: str | None) -> None:
    client = kind.client(username=username)
    assert who_logs_in(kind, client) == ALICE_OF_REALM
    assert client.authcid == (username or ALICE_OF_REALM)


CACHE_NAMES: dict[str, Callable[[Path], str | Path]] = {
    "FILE": lambda path: f"FILE:{path}",
    "str": str,
    "Path": Path,
}


@every_kind
@pytest.mark.parametrize("spell", CACHE_NAMES.values(), ids=CACHE_NAMES)
@pytest.mark.parametrize("username", [None, "bob"])
@pytest.mark.usefixtures("alice_ticket")
def test_a_cache_comes_before_the_default_one(
    bed: Bed, kind: Kind, spell: Callable[[Path], str | Path], username: str | None
) -> None:
    path = bed.folder / "bob's ccache"
    bed.realm.kinit(BOB.username, BOB.password, cache=path)
    client = kind.client(username=username, credential_cache=spell(path))
    assert who_logs_in(kind, client) == "bob@EXAMPLE.COM"
    assert client.authcid == (username or "bob@EXAMPLE.COM")


@every_kind
@pytest.mark.parametrize("user", [ALICE, BOB], ids=lambda user: user.username)
def test_the_username_selects_in_a_collection(bed: Bed, kind: Kind, user: Any) -> None:
    collection = bed.folder / "collection"
    collection.mkdir(mode=0o700)
    for number, each in enumerate((ALICE, BOB)):
        bed.realm.kinit(each.username, each.password, cache=collection / f"tkt{number}")
    (collection / "primary").write_text("tkt0\n")
    bed.environment.setenv("KRB5CCNAME", f"DIR:{collection}")
    client = kind.client(username=user.username)
    assert who_logs_in(kind, client) == f"{user.username}@EXAMPLE.COM"


# Keytabs


@every_kind
@pytest.mark.parametrize("spell", CACHE_NAMES.values(), ids=CACHE_NAMES)
@pytest.mark.parametrize("named", [True, False], ids=["named", "first"])
@pytest.mark.usefixtures("alice_ticket")
def test_a_keytab(bed: Bed, kind: Kind, spell: Callable[[Path], str | Path], named: bool) -> None:
    user = bed.new_user()
    client = kind.client(username=user if named else None, keytab=spell(bed.user_keytab(user)))
    assert who_logs_in(kind, client) == f"{user}@EXAMPLE.COM"
    assert client.authcid == (user if named else f"{user}@EXAMPLE.COM")


@every_kind
def test_the_username_selects_in_a_keytab(bed: Bed, kind: Kind) -> None:
    first, second = bed.new_user(), bed.new_user()
    keytab = bed.user_keytab(first)
    bed.kadmin(f"ktadd -k {keytab} -norandkey {second}")
    client = kind.client(username=second, keytab=keytab)
    assert who_logs_in(kind, client) == f"{second}@EXAMPLE.COM"


# The server's key


@every_kind
@pytest.mark.usefixtures("alice_ticket")
def test_a_keytab_of_the_server_alone(bed: Bed, kind: Kind) -> None:
    bed.use_keytab("ldap")
    assert who_logs_in(kind, kind.client()) == ALICE_OF_REALM


@every_kind
@pytest.mark.usefixtures("alice_ticket")
def test_a_server_takes_no_ticket_for_a_neighbour(bed: Bed, kind: Kind) -> None:
    """Whose key is in the same keytab: GSS alone would accept it."""
    bed.use_keytab("imap", "ldap")
    token = kind.client(service="imap").step(None)
    server = kind.server(service="ldap")
    with pytest.raises(AuthenticationError) as caught:
        server.step(token)
    assert "ldap/localhost" in str(caught.value)
    check_readable(caught.value)
    check_secrets(caught.value, server)
    assert who_logs_in(kind, kind.client(service="imap"), service="imap") == ALICE_OF_REALM
    assert who_logs_in(kind, kind.client()) == ALICE_OF_REALM


@every_kind
@pytest.mark.usefixtures("alice_ticket")
def test_a_server_has_no_key_but_that_of_its_service(bed: Bed, kind: Kind) -> None:
    bed.use_keytab("imap")
    with pytest.raises(MechanismUnavailableError, match="no key for ldap/localhost"):
        kind.server().step(kind.client(service="imap").step(None))


@every_kind
@pytest.mark.parametrize("complete", [True, False])
def test_a_password_is_dropped(bed: Bed, kind: Kind, complete: bool) -> None:
    user = bed.new_user()
    client = kind.client(username=user, password=PASSWORD)
    if complete:
        who_logs_in(kind, client)
    else:
        client.abandon()
    assert client._credentials.password is None
