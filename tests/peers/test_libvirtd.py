"""The example of libvirt's login: by the contract, with libvirtd, and with virsh."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import saslwrap
from examples.libvirt_login import (
    CLOSE,
    ERROR,
    GET_HOSTNAME,
    LIST_ALL_DOMAINS,
    OPEN,
    XDR,
    Connection,
    LibvirtError,
    LibvirtLogin,
    LibvirtLoginServer,
    Packet,
    failure,
    read,
    result,
    string,
    word,
    write,
)
from saslwrap import (
    AuthenticationError,
    DigestMD5Client,
    GSSAPIClient,
    MalformedMessageError,
    ProtocolError,
    SecurityProperties,
)
from saslwrap.testing import check_exchange, mechanism_pair, memory_stream_pair
from saslwrap.testing.pairs import PASSWORD, USERNAME, properties_for
from tests.peers.cyrus_logins import WRONG
from tests.peers.directory import ALICE, Credentials
from tests.peers.libvirtd import Libvirtd, virsh
from tests.peers.shells import Shell
from tests.peers.support import LOOPBACK, require_program, require_sasl_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saslwrap import Exchange
    from tests.peers.kdc import Realm
    from tests.peers.shells import Conversation
    from tests.peers.wiretap import WiretapFactory

pytestmark = pytest.mark.timeout(60)

URL = b"test:///default"
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "libvirt_login.py"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    Libvirtd.require()
    with Libvirtd() as server:
        yield server.port


def login(user: Credentials, properties: SecurityProperties) -> LibvirtLogin:
    mechanism = DigestMD5Client(
        user.username, user.password, service="libvirt", host="localhost", properties=properties
    )
    return LibvirtLogin(mechanism)


def test_virsh_logs_in(port: int, wiretap: WiretapFactory, tmp_path: Path) -> None:
    """The fixture is right."""
    require_program("virsh")
    tap = wiretap(LOOPBACK, port)
    done = virsh(tmp_path, tap.port, ALICE, "list")
    assert done.returncode == 0, done.stderr
    assert " test " in done.stdout
    tap.wait_closed()
    assert URL not in tap.client_to_server
    refused = virsh(tmp_path, port, WRONG, "list")
    assert refused.returncode != 0
    assert "authentication failed" in refused.stderr


class Calls:
    """Calls to libvirtd, one after the other."""

    def __init__(self, conversation: Conversation, serial: int) -> None:
        self._conversation = conversation
        self._serial = serial

    def call(self, procedure: int, payload: bytes = b"") -> XDR:
        call = Packet(procedure, payload, serial=self._serial)
        self._serial += 1
        self._conversation.send(write(call))
        return result(call, receive(self._conversation))


def receive(conversation: Conversation) -> Packet:
    """Receive one packet; nothing comes behind it."""
    data = conversation.receive()
    while len(data) < (length := int.from_bytes(data[:4], "big")):
        data += conversation.receive_exactly(length - len(data))
    assert len(data) == length
    return read(data)


@pytest.mark.parametrize(("protection", "ssf"), [("rc4", 128), ("rc4-56", 56)])
def test_work_under_a_layer(
    shell: Shell, port: int, wiretap: WiretapFactory, protection: str, ssf: int
) -> None:
    tap = wiretap(LOOPBACK, port)
    conversation = shell.connect(tap.port)
    exchange = login(ALICE, properties_for(protection))
    context = conversation.authenticate(exchange)
    assert context is not None
    assert context.ssf == ssf
    calls = Calls(conversation, exchange.serial)
    with pytest.raises(LibvirtError, match="no connection driver"):
        calls.call(OPEN, word(True) + string(b"nothing:///") + word(0))
    calls.call(OPEN, word(True) + string(URL) + word(0))
    assert calls.call(GET_HOSTNAME).string()
    domains = calls.call(LIST_ALL_DOMAINS, word(True) + word(0))
    assert (domains.word(), domains.string()) == (1, b"test")
    calls.call(CLOSE)
    conversation.close()
    tap.wait_closed()
    assert string(b"DIGEST-MD5") in tap.client_to_server
    assert URL not in tap.client_to_server
    assert string(b"test") not in tap.server_to_client


@pytest.mark.usefixtures("alice_ticket")
def test_kerberos(shell: Shell, realm: Realm, wiretap: WiretapFactory) -> None:
    """The client begins, and there are more steps: one of them has an empty message."""
    Libvirtd.require("gssapiv2")
    with Libvirtd(realm.environment) as server:
        tap = wiretap(server.address, server.port)
        conversation = shell.connect(tap.port)
        exchange = LibvirtLogin(GSSAPIClient(service="libvirt", host="localhost"))
        context = conversation.authenticate(exchange)
        assert context is not None
        assert context.ssf == 256
        calls = Calls(conversation, exchange.serial)
        calls.call(OPEN, word(True) + string(URL) + word(0))
        assert calls.call(GET_HOSTNAME).string()
        conversation.close()
        tap.wait_closed()
    assert string(b"GSSAPI") in tap.client_to_server
    assert URL not in tap.client_to_server


def test_a_login_after_one_that_was_refused(shell: Shell, port: int) -> None:
    conversation = shell.connect(port)
    with pytest.raises(AuthenticationError, match="refused the login: 'authentication failed"):
        conversation.authenticate(login(WRONG, SecurityProperties()))
    assert conversation.authenticate(login(ALICE, SecurityProperties()))


@pytest.mark.parametrize(
    "properties", [SecurityProperties(min_ssf=200), properties_for("auth-int")]
)
def test_a_policy_that_cannot_be_met(
    shell: Shell, port: int, properties: SecurityProperties
) -> None:
    """libvirtd offers no layer below SSF 56."""
    with pytest.raises(ProtocolError, match=r"the server offers .* libvirt has no word for that"):
        shell.connect(port).authenticate(login(ALICE, properties))


def test_the_contract() -> None:
    def make_pair() -> tuple[Exchange, Exchange]:
        client, server = mechanism_pair("rc4", service="libvirt")
        return LibvirtLogin(client), LibvirtLoginServer(lambda: server)

    def make_refused() -> tuple[Exchange, Exchange]:
        server = mechanism_pair("rc4", service="libvirt").server
        return login(WRONG, SecurityProperties()), LibvirtLoginServer(lambda: server)

    check_exchange(make_pair, make_refused=make_refused)


@pytest.mark.anyio
@pytest.mark.parametrize("announced", [0, 27, (1 << 25) + 1, 0xFFFFFFFF])
async def test_a_length_is_judged_under_the_layer_too(announced: int) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send(word(announced) + bytes(24))
    with pytest.raises(ProtocolError, match=f"a packet of {announced} octets"):
        await Connection(ours).receive()


@pytest.mark.parametrize("payload", [b"", word(9) + b"short", word(1 << 31)])
def test_a_packet_that_ends_early(payload: bytes) -> None:
    call = Packet(GET_HOSTNAME)
    with pytest.raises(MalformedMessageError, match="ends before"):
        result(call, call.reply(payload)).string()


def test_a_reply_to_another_call() -> None:
    with pytest.raises(ProtocolError, match="something else than a reply"):
        result(Packet(GET_HOSTNAME, serial=2), Packet(GET_HOSTNAME, serial=1).reply(b""))


def run_example(port: int, password: str) -> subprocess.CompletedProcess[str]:
    """As a user would, who has no terminal."""
    return subprocess.run(
        [sys.executable, EXAMPLE, "localhost", ALICE.username, str(port)],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(saslwrap.__file__).parent.parent)},
        start_new_session=True,  # or the question would go to the terminal of the tests
        timeout=60,
        check=False,
    )


def test_the_example_by_its_command_line(port: int) -> None:
    done = run_example(port, ALICE.password)
    assert done.returncode == 0, done.stderr
    first, *domains = done.stdout.splitlines()
    assert first.startswith("under rc4, on ")
    assert domains == ["1 test"]
    refused = run_example(port, WRONG.password)
    assert refused.returncode == 1
    assert "AuthenticationError: the server refused the login" in refused.stderr


def test_virsh_logs_in_to_us(shell: Shell, tmp_path: Path) -> None:
    require_program("virsh")
    require_sasl_plugin("digestmd5")
    listener = shell.listen()
    alice = Credentials(USERNAME, PASSWORD)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(virsh, tmp_path, listener.getsockname()[1], alice, "list")
        conversation = shell.accept(listener)
        server = mechanism_pair("rc4", service="libvirt").server
        context = conversation.authenticate(LibvirtLoginServer(lambda: server))
        assert context is not None
        call = receive(conversation)
        while call.procedure != OPEN:  # it asks first what we can
            conversation.send(write(call.reply(word(False))))
            call = receive(conversation)
        assert call.payload == word(True) + string(b"test:///default") + word(0)
        conversation.send(write(call.reply(failure(b"nobody is at home"), ERROR)))
        conversation.close()
        assert "nobody is at home" in done.result().stderr
