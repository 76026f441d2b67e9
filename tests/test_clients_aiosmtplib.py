"""aiosmtplib under our layer: `tests/peers/test_clients_lmtp.py` has Cyrus."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from threading import Event
from typing import Any

import aiosmtplib
import pytest
from aiosmtplib.protocol import SMTPProtocol

from saslwrap import (
    AuthenticationError,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.asyncio import SASLTransport
from saslwrap.clients.aiosmtplib import authenticate
from saslwrap.mechanisms.digest_md5 import DigestMD5Client
from saslwrap.testing.pairs import HOST, PASSWORD
from tests import smtp_servers as servers
from tests.conftest import TLSContexts
from tests.imap_servers import seal, wait
from tests.peers.imap_wire import frame_lengths
from tests.peers.smtp_wire import behind_the_login, check_sealed
from tests.peers.wiretap import Direction, Wiretap
from tests.raw_server import serving
from tests.smtp_servers import MailRoom, make_mechanism
from tests.support import ToyMechanism
from tests.test_clients_smtplib import LAYER_TOO, NAME, RECIPIENT, SENDER, TEXT

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def connect(port: int, **options: Any) -> AsyncIterator[aiosmtplib.SMTP]:
    """A client that is connected; nothing of it is left running."""
    settings = {"hostname": HOST, "local_hostname": NAME, "timeout": 30, **options}
    client = aiosmtplib.SMTP(port=port, **settings)
    async with client:
        yield client
    await asyncio.sleep(0)


async def test_a_mail_under_a_layer() -> None:
    room = MailRoom()
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            await authenticate(client, make_mechanism())
            assert isinstance(client.transport, SASLTransport)
            assert client.get_transport_info("sasl").cipher == "rc4"
            recipients = [RECIPIENT, "carol@example.com"]
            assert (await client.sendmail(SENDER, recipients, TEXT))[0] == {}
            assert (await client.sendmail(SENDER, RECIPIENT, TEXT))[0] == {}
        await asyncio.to_thread(check_sealed, tap, b"hidden", b"alice@", b"MAIL", b"SMTPUTF8")
    assert room.mails[0].content == room.mails[1].content == TEXT
    assert room.mails[0].recipients == [b"<alice@example.com>", b"<carol@example.com>"]
    assert room.commands[0] == b"EHLO"
    assert room.commands[-1] == b"QUIT"


async def test_a_mail_of_ten_megabytes() -> None:
    source = random.Random(0)
    lines = [source.randbytes(450).hex().encode() for _ in range(11_200)]
    mail = b"\r\n".join(lines) + b"\r\n"
    assert len(mail) > 10_000_000
    room = MailRoom()
    with serving(room) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
            await client.sendmail(SENDER, RECIPIENT, mail)
    assert room.mails[0].content == mail
    assert room.mails[0].sender == b"<bob@example.com> size=%d" % len(mail)


async def test_addresses_and_text_beyond_ascii() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, "юлия@example.com", "Grüße"
    message.set_content("Wie geht's? Schön!\n", cte="8bit")
    room = MailRoom()
    with serving(room) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPNotSupported):  # not in clear, there
                await client.send_message(message)
            await authenticate(client, make_mechanism())
            await client.send_message(message)
    (mail,) = room.mails
    assert mail.sender.endswith(b" SMTPUTF8 BODY=8BITMIME")
    assert mail.recipients == ["<юлия@example.com>".encode()]
    assert "Grüße".encode() in mail.content
    assert "Schön!".encode() in mail.content


class LocalClient(aiosmtplib.SMTP):
    """Says LHLO, as LMTP has it (RFC 2033)."""

    async def ehlo(self, **_: Any) -> aiosmtplib.SMTPResponse:
        response = await self.execute_command(b"LHLO", NAME.encode())
        self.last_ehlo_response = response
        return response


@pytest.mark.parametrize("start_tls", [None, False], ids=["LHLO before", "LHLO of the login"])
async def test_a_client_of_one_s_own_that_speaks_lmtp(start_tls: bool | None) -> None:
    room = MailRoom(service="lmtp")
    with serving(room) as port:
        async with LocalClient(
            hostname=HOST, port=port, local_hostname=NAME, timeout=30, start_tls=start_tls
        ) as client:
            await authenticate(client, make_mechanism(service="lmtp"))
            await client.sendmail(SENDER, RECIPIENT, TEXT)
        await asyncio.sleep(0)
    assert room.commands[0] == b"LHLO"
    assert room.mails[0].content == TEXT


async def test_what_it_is_built_on_is_there() -> None:
    """Three private attributes, and others of no documented contract."""
    with serving(MailRoom()) as port:
        async with connect(port) as client:
            protocol = client.protocol
            assert isinstance(protocol, SMTPProtocol)
            assert isinstance(protocol, asyncio.Protocol)
            assert protocol.transport is client.transport
            assert protocol.transport.get_protocol() is protocol  # type: ignore[union-attr]
            assert isinstance(protocol._command_lock, asyncio.Lock)
            assert isinstance(protocol._buffer, bytearray)
            assert protocol._response_pending is False
            assert client.local_hostname == NAME
            assert not client.is_ehlo_or_helo_needed
            client.last_ehlo_response = aiosmtplib.SMTPResponse(250, "")
            assert client.esmtp_extensions == {}
            assert client.server_auth_methods == []
    source = inspect.getsource(SMTPProtocol)
    assert source.count("async with self._command_lock:") == 3  # execute_command, DATA, start_tls
    assert source.count("del self._buffer[:]") == 2  # the end of it; start_tls
    assert source.count("self.write(") == 4  # a command, DATA, the mail behind it, STARTTLS
    assert source.count("self._response_pending = True") == 6  # before each; at first; to read
    source = inspect.getsource(aiosmtplib.SMTP)
    for name in ("execute_command", "execute_data_command", "start_tls"):
        assert source.count(f"self.protocol.{name}(") == 1
    assert "self.protocol.execute_command(" in inspect.getsource(aiosmtplib.SMTP.execute_command)
    assert "self.protocol.execute_data_command(" in inspect.getsource(aiosmtplib.SMTP.data)


@pytest.mark.parametrize("client", [object(), aiosmtplib.SMTP()])
async def test_something_else_than_a_client_that_is_connected(client: object) -> None:
    with pytest.raises(UsageError, match=r"takes an aiosmtplib\.SMTP after its connect"):
        await authenticate(client, make_mechanism())


async def test_a_login_without_a_layer() -> None:
    room = MailRoom()
    with serving(room) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism(properties=SecurityProperties(0, 0)))
            assert not isinstance(client.transport, SASLTransport)
            with pytest.raises(UsageError, match="one login a connection"):
                await authenticate(client, make_mechanism(properties=SecurityProperties(0, 0)))
            await client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


async def test_a_login_after_those_that_were_refused() -> None:
    room = MailRoom(SecurityProperties(min_ssf=0, max_ssf=128))
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            with pytest.raises(aiosmtplib.SMTPAuthenticationError, match="refused DIG") as refused:
                await authenticate(client, make_mechanism("wrong"))
            assert isinstance(refused.value.__cause__, AuthenticationError)
            assert refused.value.code == 535
            with pytest.raises(aiosmtplib.SMTPAuthenticationError, match="server offer") as unmet:
                await authenticate(client, make_mechanism(properties=SecurityProperties(200)))
            assert isinstance(unmet.value.__cause__, NegotiationError)
            assert unmet.value.code == 501
            assert client.is_connected
            with pytest.raises(UsageError, match="log in before mail goes out in clear"):
                await client.mail(SENDER)
            await authenticate(client, make_mechanism())
            await client.sendmail(SENDER, RECIPIENT, TEXT)
        await asyncio.to_thread(tap.wait_closed)
        assert PASSWORD.encode() not in tap.client_to_server
        assert frame_lengths(behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER))
    assert room.mails[0].content == TEXT


async def check_sends_no_mail(client: aiosmtplib.SMTP) -> None:
    for command in (
        client.sendmail(SENDER, RECIPIENT, TEXT),
        client.rcpt(RECIPIENT),
        client.data(TEXT),
        client.vrfy(RECIPIENT),
    ):
        with pytest.raises(UsageError, match="log in before mail goes out in clear"):
            await command


async def test_no_mail_behind_a_login_that_was_refused() -> None:
    """Whoever forges the refusal would get it in clear."""
    with serving(servers.refusing()) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                await authenticate(client, make_mechanism())
            await check_sends_no_mail(client)
            client.protocol.data_received(b"250 unasked\r\n")  # type: ignore[union-attr]
            assert (await client.noop()).message == "OK"
        await asyncio.to_thread(check_no_mail, tap)


@pytest.mark.parametrize("mechanism", [DigestMD5Client, None])
async def test_no_mail_behind_a_login_that_could_not_begin(mechanism: Any) -> None:
    with serving(MailRoom()) as port:
        async with connect(port) as client:
            with pytest.raises(UsageError, match="the login takes a ClientMechanism"):
                await authenticate(client, mechanism)
            await check_sends_no_mail(client)
            await authenticate(client, make_mechanism())
            await client.sendmail(SENDER, [RECIPIENT], TEXT)


def check_no_mail(tap: Wiretap) -> None:
    tap.wait_closed()
    assert b"EHLO" in tap.client_to_server
    for word in (b"@", b"DATA", b"hidden"):
        assert word not in tap.client_to_server


async def test_a_refusal_with_more_behind_it_closes() -> None:
    with serving(servers.refusing(b"535 no\r\n250 OK\r\n250 O")) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPAuthenticationError, match="535"):
                await authenticate(client, make_mechanism())
            await check_dead(client)


@pytest.mark.parametrize("start_tls", [None, False], ids=["EHLO before", "EHLO of the login"])
@pytest.mark.parametrize("features", [servers.CLEAR, b"250 localhost\r\n"], ids=["AUTH", "none"])
async def test_mail_of_another_task_waits_for_a_login_that_is_refused(
    start_tls: bool | None, features: bytes
) -> None:
    refusing = servers.refusing(features=features)
    with serving(refusing) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port, start_tls=start_tls) as client:
            login = asyncio.create_task(authenticate(client, make_mechanism()))
            await asyncio.sleep(0)
            with pytest.raises(UsageError, match="log in before mail goes out in clear"):
                await client.sendmail(SENDER, RECIPIENT, TEXT)
            with pytest.raises(aiosmtplib.SMTPException):
                await login
        await asyncio.to_thread(check_no_mail, tap)


async def test_a_mail_that_was_begun_does_not_go_on_over_a_new_connection() -> None:
    with serving(MailRoom()) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
            await client.mail(SENDER)
    with serving(servers.refusing()) as port, Wiretap("127.0.0.1", port) as tap:
        await client.connect(port=tap.port, start_tls=False)
        assert client.is_ehlo_or_helo_needed
        client.last_ehlo_response = aiosmtplib.SMTPResponse(250, "")  # as if it needed no EHLO
        with pytest.raises(UsageError, match="log in before mail goes out in clear"):
            await client.data(TEXT)
        await client.ehlo()
        await check_sends_no_mail(client)
        await client.quit()
        await asyncio.to_thread(check_no_mail, tap)


@pytest.mark.parametrize("method", ["PLAIN", "CRAM-MD5"])
async def test_a_new_connection_may_take_a_login_of_aiosmtplib(method: str) -> None:
    """That is as its user has asked."""

    def without_a_layer(sock: socket.socket) -> None:
        servers.greet(sock, b"250-localhost\r\n250 AUTH %s\r\n" % method.encode())
        assert sock.recv(1000).startswith(b"AUTH ")
        if method == "CRAM-MD5":
            sock.sendall(b"334 PDFAbG9jYWxob3N0Pg==\r\n")
            assert sock.recv(1000).startswith(b"YWxpY2Ug")  # "alice "
        sock.sendall(b"235 fine\r\n")
        assert sock.recv(1000) == b"MAIL FROM:<bob@example.com>\r\n"
        sock.sendall(b"250 OK\r\n")

    with serving(MailRoom()) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
    with serving(without_a_layer) as port:
        await client.connect(port=port)
        await client.login("alice", PASSWORD)
        assert (await client.mail(SENDER)).code == 250
        client.close()
        await asyncio.sleep(0)


class Waiting(DigestMD5Client):
    """Waits in its thread."""

    may_block = True
    asked: Event
    go: Event

    def _step(self, message: bytes | None) -> bytes | None:
        self.asked.set()
        assert self.go.wait(20)
        return super()._step(message)


async def test_a_login_that_fails_late_does_not_close_the_next_connection() -> None:
    mechanism = Waiting("alice", PASSWORD, service="smtp", host=HOST)
    mechanism.asked, mechanism.go = Event(), Event()
    with serving(servers.refusing()) as port:
        async with connect(port) as client:
            login = asyncio.create_task(authenticate(client, mechanism))
            assert await asyncio.to_thread(mechanism.asked.wait, 20)
            client.close()
            await client.connect()
            mechanism.go.set()
            with pytest.raises(aiosmtplib.SMTPServerDisconnected):
                await login
            assert (await client.noop()).code == 250


async def test_ehlo_before_the_login_that_is_cancelled_closes() -> None:
    """Its answer may come later, and would be taken for the next command's."""

    def silent(sock: socket.socket) -> None:
        sock.sendall(servers.GREETING)
        wait(sock)

    with serving(silent) as port:
        async with connect(port, start_tls=False) as client:
            login = asyncio.create_task(authenticate(client, make_mechanism()))
            await asyncio.sleep(0.05)
            login.cancel()
            await asyncio.wait({login})
            assert login.cancelled()
            await check_dead(client)


async def test_no_traceback_of_ours_shows_a_mail() -> None:
    with serving(servers.refusing()) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPAuthenticationError):
                await authenticate(client, make_mechanism())
            with pytest.raises(UsageError) as refused:
                client.protocol.write(TEXT)  # type: ignore[union-attr]
    frames = [entry.frame for entry in refused.traceback]
    ours = [frame for frame in frames if "saslwrap.clients" in frame.f_globals["__name__"]]
    assert ours
    assert "hidden" not in repr([frame.f_locals for frame in ours])


async def test_what_a_mechanism_misses_is_raised_as_it_is() -> None:
    with serving(MailRoom()) as port:
        async with connect(port) as client:
            with pytest.raises(MechanismUnavailableError, match="install it"):
                await authenticate(client, ToyMechanism(MechanismUnavailableError("install it")))
            await authenticate(client, make_mechanism())


async def test_a_time_out_of_the_system_s_is_a_lost_connection() -> None:
    with serving(MailRoom()) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPServerDisconnected, match="no route"):
                await authenticate(client, ToyMechanism(TimeoutError("no route")))
            await check_dead(client)


async def test_what_has_no_place_behind_a_login(tls: TLSContexts) -> None:
    room = MailRoom(extra=b"250-STARTTLS\r\n250-AUTH PLAIN\r\n")
    with serving(room) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
            with pytest.raises(UsageError, match="before the login"):
                await client.starttls(tls_context=tls.client)
            with pytest.raises(UsageError, match="one login a connection"):
                await authenticate(client, make_mechanism())
            with pytest.raises(UsageError, match="one login a connection"):
                await client.login("alice", PASSWORD)
            await client.sendmail(SENDER, RECIPIENT, TEXT)
    assert not {b"AUTH", b"STAR"} & set(room.commands)


async def test_a_new_connection_takes_a_new_login() -> None:
    room = MailRoom()
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            await authenticate(client, make_mechanism())
            client.close()
            with pytest.raises(aiosmtplib.SMTPServerDisconnected):
                await client.sendmail(SENDER, RECIPIENT, TEXT)
            for _ in range(2):
                await client.connect()
                assert not client.supports_extension("size")
                with pytest.raises(UsageError, match="log in before mail goes out in clear"):
                    await client.sendmail(SENDER, RECIPIENT, TEXT)
                await authenticate(client, make_mechanism())
                await client.sendmail(SENDER, RECIPIENT, TEXT)
                await client.quit()
        await asyncio.to_thread(check_sealed, tap, b"hidden", b"MAIL")
        assert len(tap.recordings) == 3
    assert [mail.content for mail in room.mails] == [TEXT, TEXT]


async def test_commands_of_other_tasks_go_out_before_the_login_or_under_the_layer() -> None:
    room = MailRoom()
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            before = asyncio.create_task(client.vrfy(SENDER))
            await asyncio.sleep(0)
            login = asyncio.create_task(authenticate(client, make_mechanism()))
            await asyncio.sleep(0)
            after = asyncio.create_task(client.mail(SENDER))
            with pytest.raises(aiosmtplib.SMTPResponseException, match="530"):
                await before
            await login
            assert (await after).code == 250
        await asyncio.to_thread(check_sealed, tap, b"MAIL", b"bob@")
        assert b"VRFY bob@example.com\r\nAUTH" in tap.client_to_server
    assert len(room.mails) == 1


async def test_a_connection_that_is_lost_while_the_login_waits_for_a_command() -> None:
    def leaves(sock: socket.socket) -> None:
        servers.greet(sock)
        assert sock.recv(1000).startswith(b"VRFY ")

    with serving(leaves) as port:
        async with connect(port) as client:
            before = asyncio.create_task(client.vrfy(SENDER))
            await asyncio.sleep(0)
            with pytest.raises(aiosmtplib.SMTPServerDisconnected, match="before the login"):
                await authenticate(client, make_mechanism())
            with pytest.raises(aiosmtplib.SMTPServerDisconnected):
                await before
            await check_dead(client)


# over TLS


async def test_starttls_and_a_layer_above(tls: TLSContexts) -> None:
    room = MailRoom(LAYER_TOO)

    def over_tls(sock: socket.socket) -> None:
        servers.greet(sock, b"250-localhost\r\n250 STARTTLS\r\n")
        assert sock.recv(100) == b"STARTTLS\r\n"
        sock.sendall(b"220 begin\r\n")
        with tls.server.wrap_socket(sock, server_side=True) as below:
            room.serve(below)

    with serving(over_tls) as port:
        async with connect(port, tls_context=tls.client) as client:  # it starts TLS by itself
            await authenticate(client, make_mechanism(properties=LAYER_TOO))
            assert client.get_transport_info("sasl").ssf == 128
            await client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


async def test_tls_from_the_first_octet(tls: TLSContexts) -> None:
    room = MailRoom()

    def over_tls(sock: socket.socket) -> None:
        with tls.server.wrap_socket(sock, server_side=True) as below:
            room(below)

    with serving(over_tls) as port:
        async with connect(port, use_tls=True, tls_context=tls.client) as client:
            await authenticate(client, make_mechanism())
            assert not isinstance(client.transport, SASLTransport)  # TLS suffices
            await client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


# servers that do what they must not


async def check_dead(client: aiosmtplib.SMTP) -> None:
    """It sends nothing more."""
    assert not client.is_connected
    assert client.transport is None
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await client.noop()


@pytest.mark.parametrize("case", servers.BAD_LOGINS)
async def test_a_login_that_cannot_be_good(case: str) -> None:
    serve, words = servers.BAD_LOGINS[case]
    with serving(serve) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPException, match=words) as caught:
                await authenticate(client, make_mechanism())
            await check_dead(client)
    cause = caught.value.__cause__
    assert isinstance(cause, SASLError)
    if isinstance(cause, ProtocolError):
        assert type(caught.value) is aiosmtplib.SMTPServerDisconnected
    else:
        assert isinstance(caught.value, aiosmtplib.SMTPAuthenticationError)
        assert caught.value.code == 535


@pytest.mark.parametrize("case", servers.FORBIDDEN)
async def test_what_no_client_may_accept(case: str) -> None:
    serve, words = servers.FORBIDDEN[case]
    with serving(serve) as port, Wiretap("127.0.0.1", port) as tap:
        async with connect(tap.port) as client:
            with pytest.raises(aiosmtplib.SMTPServerDisconnected) as caught:
                await _log_in_and_begin(client)
            cause = caught.value.__cause__
            assert isinstance(cause, SASLError)
            with pytest.raises(type(cause), match=words):
                raise cause
            await check_dead(client)
        await asyncio.to_thread(tap.wait_closed)
        sent = behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER)
        assert frame_lengths(sent)
        assert b"EHLO" not in sent


async def _log_in_and_begin(client: aiosmtplib.SMTP) -> None:
    await authenticate(client, make_mechanism())
    await client.mail(SENDER)


async def test_a_layer_that_fails_while_nobody_waits() -> None:
    def fail_later(sock: socket.socket) -> None:
        servers.greet(sock)
        sealed = servers.log_in(sock)
        for reply in (servers.SEALED, b"250 OK\r\n"):
            assert sealed.recv(1000)
            frame = seal(sealed, reply)
            sock.sendall(frame)
        sock.sendall(frame)
        wait(sock)

    with serving(fail_later) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
            assert (await client.noop()).code == 250
            with pytest.raises(aiosmtplib.SMTPServerDisconnected):
                await client.mail(SENDER)
            await check_dead(client)


async def test_a_layer_that_fails_behind_the_features_of_its_connection() -> None:
    """aiosmtplib takes them for those of the next connection."""
    room = MailRoom()
    connections = iter([True])

    def fail_once(sock: socket.socket) -> None:
        servers.greet(sock)
        if not next(connections, False):
            return room.serve(sock)
        sealed = servers.log_in(sock)
        for times in (1, 2):
            assert sealed.recv(1000).startswith(b"EHLO ")
            sock.sendall(seal(sealed, servers.SEALED) * times)
        return wait(sock)

    with serving(fail_once) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
            remembered = await client.ehlo()
            await client.connect()
            client.last_ehlo_response = remembered  # as it is where the loss was noticed late
            assert not client.supports_extension("auth")
            await authenticate(client, make_mechanism())
            await client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


async def test_a_line_without_end_under_the_layer() -> None:
    with serving(servers.endless) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPResponseException, match="Response too long"):
                await authenticate(client, make_mechanism())
            await check_dead(client)


async def test_a_server_that_refuses_ehlo_under_the_layer() -> None:
    with serving(servers.refuses_ehlo) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPHeloError, match="554"):
                await authenticate(client, make_mechanism())
            await check_dead(client)


async def test_a_server_without_auth() -> None:
    with serving(servers.without_auth) as port:
        async with connect(port, start_tls=False) as client:
            with pytest.raises(aiosmtplib.SMTPNotSupported, match="does not offer AUTH"):
                await authenticate(client, make_mechanism())
            assert client.supports_extension("8bitmime")
            client.close()


async def test_what_came_in_clear_is_not_believed_under_the_layer() -> None:
    """Nor is it taken for a reply of the layer's: it is the login's to hear, which it ends."""
    with serving(servers.injecting(MailRoom())) as port:
        async with connect(port) as client:
            with pytest.raises(aiosmtplib.SMTPServerDisconnected, match="a reply 250 during"):
                await authenticate(client, make_mechanism())
            await check_dead(client)


async def test_features_are_those_under_the_layer() -> None:
    room = MailRoom()

    def polite(sock: socket.socket) -> None:
        servers.greet(sock)
        room.serve(sock)

    with serving(polite) as port:
        async with connect(port) as client:
            assert client.supports_extension("x-in-clear")
            await authenticate(client, make_mechanism())
            assert sorted(client.esmtp_extensions) == ["8bitmime", "size", "smtputf8"]
            assert client.server_auth_methods == []


async def test_a_server_that_says_nothing_more() -> None:
    with serving(servers.answering(b"")) as port:
        async with connect(port) as client:
            client.timeout = 0.2
            with pytest.raises(aiosmtplib.SMTPTimeoutError, match="took too long"):
                await authenticate(client, make_mechanism())
            await check_dead(client)


async def test_a_cancelled_login_closes() -> None:
    with serving(servers.answering(b"")) as port:
        async with connect(port) as client:
            login = asyncio.create_task(authenticate(client, make_mechanism()))
            await asyncio.sleep(0.1)
            login.cancel()
            await asyncio.wait({login})
            assert login.cancelled()
            await check_dead(client)


async def test_a_command_that_is_sent_before_the_client_hears_that_the_layer_failed() -> None:
    with serving(MailRoom()) as port:
        async with connect(port) as client:
            await authenticate(client, make_mechanism())
            assert client.transport is not None
            context = client.transport.get_extra_info("sasl")
            with pytest.raises(SASLError) as failed:
                context.unseal(bytes(40))
            with pytest.raises(aiosmtplib.SMTPServerDisconnected) as caught:
                await client.noop()
            assert str(caught.value) == str(caught.value.__cause__) == str(failed.value)
            await asyncio.sleep(0.01)
            await check_dead(client)
