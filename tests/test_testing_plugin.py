"""The plugin's fixtures, under whatever runs a test's coroutine: each in a pytest of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

from saslwrap import UsageError
from saslwrap.anyio import SASLAttribute
from saslwrap.testing import Drop, OneOctet, RandomSizes, mechanism_pair
from saslwrap.testing.checks.leaks import kept_by, shows
from saslwrap.testing.plugin import Faults, MakeIMAPServer, MakeLDAPServer, MakePair

pytest_plugins = ["pytester"]

INI = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

#: Without a plugin for coroutines, and so without one that knows our ini file.
WITHOUT = ["-p", "no:asyncio", "-p", "no:anyio", "-W", "ignore::pytest.PytestConfigWarning"]

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "pytest.md"

#: A test of every fixture, called as its runner wants it.
EVERYTHING = """
import asyncio

import anyio
import pytest

from saslwrap import DigestMD5Client
from saslwrap.anyio import authenticate
from saslwrap.protocols.imap import IMAPAuthenticate
from saslwrap.protocols.ldap import LDAPBind
from saslwrap.testing import FaultyStream

WHO_AM_I = bytes.fromhex("301e02010377198017") + b"1.3.6.1.4.1.4203.1.11.3"


async def everything(sasl_pair, ldap_server, imap_server, faults):
    async with sasl_pair("3des") as pair:
        await pair.client.send(b"hello")
        assert await pair.server.receive() == b"hello"
    async with ldap_server(users={"carol": "swordfish"}) as server:
        mechanism = DigestMD5Client("carol", "swordfish", service="ldap", host=server.host)
        async with await anyio.connect_tcp("127.0.0.1", server.port) as tcp:
            faulty = FaultyStream(tcp, receiving=faults("one octet"))
            stream = await authenticate(faulty, LDAPBind(mechanism))
            await stream.send(WHO_AM_I)
            assert b"u:carol" in await stream.receive()
    async with imap_server() as server:
        mechanism = DigestMD5Client("bob", "hunter2", service="imap", host=server.host)
        async with await anyio.connect_tcp("127.0.0.1", server.port) as tcp:
            stream = await authenticate(tcp, IMAPAuthenticate(mechanism))
            await stream.send(b"A2 SELECT INBOX\\r\\n")
            assert b"* 1 EXISTS" in await stream.receive()
"""

COROUTINE = """
async def test_everything(sasl_pair, ldap_server, imap_server, faults):
    await everything(sasl_pair, ldap_server, imap_server, faults)
"""

NO_COROUTINE = """
def test_everything(sasl_pair, ldap_server, imap_server, faults):
    asyncio.run(everything(sasl_pair, ldap_server, imap_server, faults))
"""

#: How each runner wants its test, its options, and how often it runs it.
RUNNERS = {
    "none": (NO_COROUTINE, "", 1),
    "pytest-asyncio, strict": ("\n@pytest.mark.asyncio" + COROUTINE, "asyncio_mode=strict", 1),
    "pytest-asyncio, auto": (COROUTINE, "asyncio_mode=auto", 1),
    "anyio, on asyncio and trio": ("\n@pytest.mark.anyio" + COROUTINE, "asyncio_mode=strict", 2),
}


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A pytest that takes each warning for an error, as ours does."""
    pytester.makeini(INI)
    return pytester


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_fixtures_work_under(runner: str, inner: pytest.Pytester) -> None:
    test, option, times = RUNNERS[runner]
    inner.makepyfile(EVERYTHING + test)
    options = ["-o", option] if option else WITHOUT
    result = inner.runpytest_subprocess(*options)
    result.assert_outcomes(passed=times)


#: Tests that get a server from a fixture of their own, as each runner wants that.
HANDED_OUT = """
import anyio
import pytest
import pytest_asyncio


@{fixture}
async def beside(ldap_server):
    async with ldap_server() as server:
        yield server


@pytest.fixture
def apart(imap_server):
    with imap_server().in_thread() as server:
        yield server


@{mark}
async def test_both_listen(beside, apart):
    for server in (beside, apart):
        async with await anyio.connect_tcp("127.0.0.1", server.port):
            pass
"""

KEEPERS = {
    "pytest-asyncio, strict": ("strict", "pytest_asyncio.fixture", "pytest.mark.asyncio", 1),
    "pytest-asyncio, auto": ("auto", "pytest.fixture", "pytest.mark.asyncio", 1),
    "anyio, on asyncio and trio": ("strict", "pytest.fixture", "pytest.mark.anyio", 2),
}


@pytest.mark.parametrize("keeper", KEEPERS)
def test_a_fixture_may_hand_out_a_server_under(keeper: str, inner: pytest.Pytester) -> None:
    mode, fixture, mark, times = KEEPERS[keeper]
    inner.makepyfile(HANDED_OUT.format(fixture=fixture, mark=mark))
    result = inner.runpytest_subprocess("-o", f"asyncio_mode={mode}")
    result.assert_outcomes(passed=times)


def test_the_page_for_newcomers_is_true(inner: pytest.Pytester) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    inner.makepyfile("\n\n".join(blocks))
    result = inner.runpytest_subprocess("-p", "no:anyio")
    tests = sum(block.count("def test_") for block in blocks)
    assert tests > 3
    result.assert_outcomes(passed=tests)


def test_an_environment_without_the_extra_is_left_in_peace(inner: pytest.Pytester) -> None:
    """Whoever installs saslwrap for something else has the plugin too."""
    inner.makepyfile(
        asn1tools="raise ModuleNotFoundError(name='asn1tools')",
        test_other="def test_other(): pass",
    )
    inner.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_fixtures_say_what_they_are(inner: pytest.Pytester) -> None:
    result = inner.runpytest_subprocess("--fixtures")
    for name in ("sasl_pair", "ldap_server", "imap_server", "faults"):
        result.stdout.re_match_lines([rf"{name} -- .*saslwrap/testing/plugin\.py:\d+"])


@pytest.mark.anyio
async def test_a_pair_is_closed_at_the_end(sasl_pair: MakePair) -> None:
    async with sasl_pair("auth-int", client_maxbuf=100) as pair:
        await pair.server.send(bytes(1000))
        assert len(await pair.client.receive()) == 84
    for stream in pair:
        with pytest.raises(ClosedResourceError):
            await stream.send(b"x")


@pytest.mark.anyio
async def test_a_pair_of_a_login_of_ones_own(sasl_pair: MakePair) -> None:
    async with sasl_pair(mechanism_pair("des", authzid="bob")) as pair:
        await pair.client.send(b"sealed")
        assert await pair.server.receive() == b"sealed"
        assert pair.server.extra(SASLAttribute.cipher) == "des"


@pytest.mark.anyio
async def test_a_pair_is_closed_when_the_test_fails(sasl_pair: MakePair) -> None:
    with pytest.raises(ZeroDivisionError):
        async with sasl_pair() as pair:
            raise ZeroDivisionError
    with pytest.raises((ClosedResourceError, EndOfStream, BrokenResourceError)):
        await pair.client.receive()


def test_a_server_takes_what_its_class_takes(
    ldap_server: MakeLDAPServer, imap_server: MakeIMAPServer
) -> None:
    directory = ldap_server({"cn=x": {"cn": ["x"]}}, realm="elsewhere.example", idle_timeout=5)
    assert (directory.realm, directory.idle_timeout) == ("elsewhere.example", 5)
    mail = imap_server({"x": [b"y"]}, realm="elsewhere.example", append_limit=5)
    assert (mail.realm, mail.append_limit) == ("elsewhere.example", 5)
    assert mail.messages("x")[1].content == b"y"


@pytest.mark.parametrize("wrong", [{"mechanisms": ["PLAIN"]}, {"users": {"alice": b"s3cret-Pa55"}}])
def test_a_refusal_shows_no_password(
    ldap_server: MakeLDAPServer, imap_server: MakeIMAPServer, wrong: dict[str, Any]
) -> None:
    for make in (ldap_server, imap_server):
        with pytest.raises(UsageError) as caught:
            make(**{"users": {"alice": "s3cret-Pa55"}, **wrong})
        assert shows(b"s3cret-Pa55", *kept_by(caught.value, ("tests.", "_pytest"))) == []


def test_a_seed_makes_the_same_faults_in_their_order() -> None:
    def sizes(seed: int) -> list[list[int]]:
        faults = Faults(seed)
        made = [faults("random sizes") for _ in range(2)]
        return [
            [len(piece) for piece in fault.apply(bytes(1000)) if isinstance(piece, bytes)]
            for fault in made
        ]

    assert sizes(1) == sizes(1)
    assert sizes(1) != sizes(2)
    assert len(set(map(tuple, sizes(1)))) == 2


def test_faults_are_named(faults: Faults) -> None:
    assert isinstance(faults("one octet"), OneOctet)
    assert isinstance(faults("random sizes"), RandomSizes)
    assert isinstance(faults("drop"), Drop)
    assert repr(faults) == "<Faults seed=0>"


def test_the_seed_is_an_option(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_seed(faults): assert faults.seed == 7")
    inner.runpytest_subprocess("--sasl-seed", "7").assert_outcomes(passed=1)
