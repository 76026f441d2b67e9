"""smtplib under our layer: `tests/peers/test_clients_lmtp.py` has Cyrus."""

from __future__ import annotations

import gc
import random
import smtplib
import socket
from email.message import EmailMessage
from typing import Any, NoReturn

import pytest

from saslwrap import (
    AuthenticationError,
    MechanismUnavailableError,
    NegotiationError,
    ProtocolError,
    SASLError,
    SecurityProperties,
    UsageError,
)
from saslwrap.clients.smtplib import LMTP, SMTP, SMTP_SSL
from saslwrap.sync import SASLSocket
from saslwrap.testing.pairs import HOST, PASSWORD
from tests import smtp_servers as servers
from tests.conftest import TLSContexts
from tests.imap_servers import wait
from tests.peers.imap_wire import frame_lengths
from tests.peers.smtp_wire import behind_the_login, check_sealed
from tests.peers.wiretap import Direction, Wiretap
from tests.raw_server import serving
from tests.smtp_servers import MailRoom, make_mechanism
from tests.support import ToyMechanism

NAME = "client.example.com"
LAYER_TOO = SecurityProperties(require_layer=True)
SENDER, RECIPIENT = "bob@example.com", "alice@example.com"
TEXT = b"Subject: hidden\r\n\r\nhow are you?\r\n.\r\n..and yours?\r\n"


def connect(port: int, kind: type[SMTP] = SMTP) -> SMTP:
    return kind("127.0.0.1", port, NAME, timeout=30)


def test_a_mail_under_a_layer() -> None:
    room = MailRoom()
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        with connect(tap.port) as client:
            assert client.authenticate_sasl(make_mechanism()) == (235, b"authenticated")
            assert isinstance(client.sock, SASLSocket)
            assert client.sendmail(SENDER, [RECIPIENT, "carol@example.com"], TEXT) == {}
            assert client.sendmail(SENDER, RECIPIENT, TEXT) == {}
        check_sealed(tap, b"hidden", b"alice@", b"MAIL", b"SMTPUTF8")
    assert room.mails[0].content == room.mails[1].content == TEXT
    assert room.mails[0].recipients == [b"<alice@example.com>", b"<carol@example.com>"]
    assert room.commands[0] == b"EHLO"
    assert room.commands[-1] == b"QUIT"


def test_a_mail_of_ten_megabytes() -> None:
    source = random.Random(0)
    lines = [source.randbytes(450).hex().encode() for _ in range(11_200)]
    mail = b"\r\n".join(lines) + b"\r\n"
    assert len(mail) > 10_000_000
    room = MailRoom()
    with serving(room) as port, connect(port) as client:
        client.authenticate_sasl(make_mechanism())
        client.sendmail(SENDER, RECIPIENT, mail)
    assert room.mails[0].content == mail
    assert room.mails[0].sender == b"<bob@example.com> size=%d" % len(mail)


def test_addresses_and_text_beyond_ascii() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, "юлия@example.com", "Grüße"
    message.set_content("Wie geht's? Schön!\n", cte="8bit")
    room = MailRoom()
    with serving(room) as port, connect(port) as client:
        with pytest.raises(smtplib.SMTPNotSupportedError):  # not in clear, there
            client.send_message(message)
        client.authenticate_sasl(make_mechanism())
        client.send_message(message)
    (mail,) = room.mails
    assert mail.sender.endswith(b" SMTPUTF8 BODY=8BITMIME")
    assert mail.recipients == ["<юлия@example.com>".encode()]
    assert "Grüße".encode() in mail.content
    assert "Schön!".encode() in mail.content


def test_lmtp() -> None:
    room = MailRoom(service="lmtp")
    with serving(room) as port, connect(port, LMTP) as client:
        client.authenticate_sasl(make_mechanism(service="lmtp"))
        client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.commands[0] == b"LHLO"
    assert room.mails[0].content == TEXT


def test_what_it_is_built_on_is_there() -> None:
    """Attributes without an underscore that smtplib does not document: its version may change."""
    with serving(MailRoom()) as port:
        client = smtplib.SMTP("127.0.0.1", port, NAME, timeout=30)
        assert isinstance(client.sock, socket.socket)
        assert callable(client.file.readline)  # type: ignore[union-attr]
        assert client.ehlo()[0] == 250
        client.file = None
        assert client.vrfy(RECIPIENT)[0] == 530  # read by a file that it has made
        assert callable(client.file.readline)  # type: ignore[attr-defined]
        assert (client.ehlo_resp is None, client.helo_resp) == (False, None)
        assert (client.esmtp_features, client.does_esmtp) == ({"auth": " DIGEST-MD5"}, True)
        client.close()
        assert [client.sock, client.file] == [None, None]
    assert smtplib.LMTP.ehlo_msg == "lhlo"


def test_a_login_without_a_layer() -> None:
    room = MailRoom()
    with serving(room) as port, connect(port) as client:
        client.authenticate_sasl(make_mechanism(properties=SecurityProperties(0, 0)))
        assert client.sock.context is None  # type: ignore[union-attr]
        client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


def test_a_login_after_those_that_were_refused() -> None:
    room = MailRoom(SecurityProperties(min_ssf=0, max_ssf=128))
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        with connect(tap.port) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError, match="refused DIGEST") as refused:
                client.authenticate_sasl(make_mechanism("wrong"))
            assert isinstance(refused.value.__cause__, AuthenticationError)
            assert refused.value.smtp_code == 535
            with pytest.raises(smtplib.SMTPAuthenticationError, match="server offers") as unmet:
                client.authenticate_sasl(make_mechanism(properties=SecurityProperties(200)))
            assert isinstance(unmet.value.__cause__, NegotiationError)
            assert unmet.value.smtp_code == 501
            assert isinstance(client.sock, socket.socket)
            with pytest.raises(UsageError, match="log in before mail goes out in clear"):
                client.mail(SENDER)
            client.authenticate_sasl(make_mechanism())
            client.sendmail(SENDER, RECIPIENT, TEXT)
        tap.wait_closed()
        assert PASSWORD.encode() not in tap.client_to_server
        assert frame_lengths(behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER))
    assert room.mails[0].content == TEXT


def test_what_a_mechanism_misses_is_raised_as_it_is() -> None:
    with serving(MailRoom()) as port, connect(port) as client:
        with pytest.raises(MechanismUnavailableError, match="install it"):
            client.authenticate_sasl(ToyMechanism(MechanismUnavailableError("install it")))
        client.authenticate_sasl(make_mechanism())


def test_a_mechanism_that_the_server_does_not_have() -> None:
    with serving(MailRoom()) as port, connect(port) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError, match="refused TOY: 504"):
            client.authenticate_sasl(ToyMechanism(b""))
        client.authenticate_sasl(make_mechanism())


def test_no_mail_behind_a_login_that_was_refused() -> None:
    """Whoever forges the refusal would get it in clear."""
    with serving(servers.refusing()) as port, Wiretap("127.0.0.1", port) as tap:
        with connect(tap.port) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.authenticate_sasl(make_mechanism())
            check_sends_no_mail(client)
            assert client.noop()[0] == 250
        tap.wait_closed()
        assert b"QUIT" in tap.client_to_server
        assert b"@" not in tap.client_to_server
        assert b"hidden" not in tap.client_to_server


@pytest.mark.parametrize("mechanism", [ToyMechanism, None])
def test_no_mail_behind_a_login_that_could_not_begin(mechanism: Any) -> None:
    with serving(MailRoom()) as port, connect(port) as client:
        with pytest.raises(UsageError, match="the login takes a ClientMechanism"):
            client.authenticate_sasl(mechanism)
        check_sends_no_mail(client)
        client.authenticate_sasl(make_mechanism())
        client.sendmail(SENDER, RECIPIENT, TEXT)


def check_sends_no_mail(client: SMTP) -> None:
    for command in (
        lambda: client.sendmail(SENDER, RECIPIENT, TEXT),
        lambda: client.rcpt(RECIPIENT),
        lambda: client.data(TEXT),
        lambda: client.vrfy(RECIPIENT),
    ):
        with pytest.raises(UsageError, match="log in before mail goes out in clear"):
            command()


def test_a_refusal_with_more_behind_it_closes() -> None:
    """Or the answers to the next commands would be those."""
    with serving(servers.refusing(b"535 no\r\n250 OK\r\n250 O")) as port:
        client = connect(port)
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            client.authenticate_sasl(make_mechanism())
        check_dead(client)


def interrupted() -> NoReturn:
    raise KeyboardInterrupt


def test_ehlo_before_the_login_that_is_interrupted_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer may come later, and would be taken for the next command's."""
    with serving(MailRoom()) as port:
        client = connect(port)
        monkeypatch.setattr(client, "getreply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.authenticate_sasl(make_mechanism())
        check_dead(client)


def test_an_interrupted_login_closes() -> None:
    with serving(MailRoom()) as port:
        client = connect(port)
        with pytest.raises(KeyboardInterrupt):
            client.authenticate_sasl(ToyMechanism(KeyboardInterrupt()))
        assert client.sock is None


def test_what_has_no_place_behind_a_login(tls: TLSContexts) -> None:
    room = MailRoom()
    with serving(room) as port, connect(port) as client:
        client.authenticate_sasl(make_mechanism())
        with pytest.raises(UsageError, match="before the login"):
            client.starttls(context=tls.client)
        with pytest.raises(UsageError, match="one login a connection"):
            client.authenticate_sasl(make_mechanism())
        with pytest.raises(UsageError, match="one login a connection"):
            client.auth("PLAIN", lambda challenge=None: "\0alice\0s3cret")
        with pytest.raises(smtplib.SMTPNotSupportedError):  # it is not offered any more
            client.login("alice", PASSWORD)
        client.sendmail(SENDER, RECIPIENT, TEXT)
    assert b"AUTH" not in room.commands


def test_a_client_that_is_not_connected() -> None:
    with pytest.raises(UsageError, match="call connect"):
        SMTP(local_hostname=NAME).authenticate_sasl(make_mechanism())


def test_a_new_connection_takes_a_new_login() -> None:
    room = MailRoom()
    with serving(room) as port, Wiretap("127.0.0.1", port) as tap:
        client = connect(tap.port)
        client.authenticate_sasl(make_mechanism())
        client.connect("127.0.0.1", tap.port)  # of the other connection nothing is left
        assert not client.has_extn("size")
        assert client.ehlo_resp is None
        with pytest.raises(UsageError, match="log in before mail goes out in clear"):
            client.sendmail(SENDER, RECIPIENT, TEXT)
        client.authenticate_sasl(make_mechanism())
        client.sendmail(SENDER, RECIPIENT, TEXT)
        client.quit()
        with pytest.raises(smtplib.SMTPServerDisconnected, match="connect"):
            client.mail(SENDER)
        check_sealed(tap, b"hidden", b"MAIL", b"mail FROM")
        assert len(tap.recordings) == 2
    assert [mail.content for mail in room.mails] == [TEXT]


def test_a_mail_that_was_begun_does_not_go_on_over_a_new_connection() -> None:
    with serving(MailRoom()) as port:
        client = connect(port)
        client.authenticate_sasl(make_mechanism())
        client.mail(SENDER)
        client.close()
    with serving(servers.refusing()) as port, Wiretap("127.0.0.1", port) as tap:
        client.connect("127.0.0.1", tap.port)
        check_sends_no_mail(client)
        client.quit()
        tap.wait_closed()
        assert b"DATA" not in tap.client_to_server.upper()
        assert b"@" not in tap.client_to_server


def test_503_is_no_login() -> None:
    """smtplib takes it for one."""
    already = servers.refusing(b"503 already\r\n")
    with serving(already) as port, connect(port) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError, match="503"):
            client.authenticate_sasl(make_mechanism())
        assert client.login("alice", PASSWORD)[0] == 503
        check_sends_no_mail(client)


def test_a_new_connection_may_take_a_login_of_smtplib() -> None:
    """That is as its user has asked."""
    room = MailRoom()

    def without_a_layer(sock: socket.socket) -> None:
        servers.greet(sock)
        if (command := sock.recv(1000)).startswith(b"AUTH DIGEST-MD5"):
            wait(sock)
        assert command.startswith(b"AUTH PLAIN ")
        sock.sendall(b"235 fine\r\n")
        assert sock.recv(1000).lower().startswith(b"mail from:<bob@example.com>")
        sock.sendall(b"250 OK\r\n")

    with serving(room) as port:
        client = connect(port)
        client.authenticate_sasl(make_mechanism())
        client.close()
    with serving(without_a_layer) as port:
        client.connect("127.0.0.1", port)
        client.login("alice", PASSWORD)
        assert client.mail(SENDER) == (250, b"OK")
        client.close()


def test_no_traceback_of_ours_shows_a_mail() -> None:
    with serving(MailRoom()) as port, connect(port) as client:
        client.authenticate_sasl(make_mechanism())
        client.sock.sock.close()  # type: ignore[union-attr]
        with pytest.raises(smtplib.SMTPServerDisconnected) as lost:
            client.send(TEXT)
    with serving(MailRoom()) as port:
        client.connect("127.0.0.1", port)
        with pytest.raises(UsageError) as refused:
            client.send(TEXT)
        client.close()
    for caught in (lost, refused):
        frames = [entry.frame for entry in caught.traceback]
        ours = [frame for frame in frames if "saslwrap.clients" in frame.f_globals["__name__"]]
        assert "send" in {frame.code.name for frame in ours}
        assert "hidden" not in repr([frame.f_locals for frame in ours])


# over TLS


def test_starttls_and_a_layer_above(tls: TLSContexts) -> None:
    room = MailRoom(LAYER_TOO)

    def over_tls(sock: socket.socket) -> None:
        servers.greet(sock, b"250-localhost\r\n250 STARTTLS\r\n")
        assert sock.recv(100) == b"STARTTLS\r\n"
        sock.sendall(b"220 begin\r\n")
        with tls.server.wrap_socket(sock, server_side=True) as below:
            room.serve(below)

    with serving(over_tls) as port, SMTP(HOST, port, NAME, timeout=30) as client:
        client.starttls(context=tls.client)
        client.authenticate_sasl(make_mechanism(properties=LAYER_TOO))
        assert client.sock.context is not None  # type: ignore[union-attr]
        client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


def test_tls_from_the_first_octet(tls: TLSContexts) -> None:
    room = MailRoom()

    def over_tls(sock: socket.socket) -> None:
        with tls.server.wrap_socket(sock, server_side=True) as below:
            room(below)

    with (
        serving(over_tls) as port,
        SMTP_SSL(HOST, port, NAME, timeout=30, context=tls.client) as client,
    ):
        client.authenticate_sasl(make_mechanism())
        assert client.sock.context is None  # type: ignore[union-attr] # TLS suffices
        client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


# servers that do what they must not


def check_dead(client: SMTP) -> None:
    """It sends nothing more, and nothing of it is left open."""
    assert client.sock is None
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()
    gc.collect()  # or a warning of an open socket comes later


@pytest.mark.parametrize("case", servers.BAD_LOGINS)
def test_a_login_that_cannot_be_good(case: str) -> None:
    serve, words = servers.BAD_LOGINS[case]
    with serving(serve) as port:
        client = connect(port)
        with pytest.raises(smtplib.SMTPException, match=words) as caught:
            client.authenticate_sasl(make_mechanism())
        check_dead(client)
    cause = caught.value.__cause__
    assert isinstance(cause, SASLError)
    if isinstance(cause, ProtocolError):
        assert type(caught.value) is smtplib.SMTPServerDisconnected
    else:
        assert isinstance(caught.value, smtplib.SMTPAuthenticationError)
        assert caught.value.smtp_code == 535


@pytest.mark.parametrize("case", servers.FORBIDDEN)
def test_what_no_client_may_accept(case: str) -> None:
    serve, words = servers.FORBIDDEN[case]
    with serving(serve) as port, Wiretap("127.0.0.1", port) as tap:
        client = connect(tap.port)
        with pytest.raises(smtplib.SMTPServerDisconnected, match=words) as caught:
            _log_in_and_begin(client)
        assert isinstance(caught.value.__cause__, SASLError)
        check_dead(client)
        tap.wait_closed()
        sent = behind_the_login(tap.recordings[0], Direction.CLIENT_TO_SERVER)
        assert frame_lengths(sent)
        assert b"ehlo" not in sent


def _log_in_and_begin(client: SMTP) -> None:
    client.authenticate_sasl(make_mechanism())
    client.mail(SENDER)


def test_a_line_without_end_under_the_layer() -> None:
    with serving(servers.endless) as port:
        client = connect(port)
        with pytest.raises(smtplib.SMTPResponseException, match="Line too long"):
            client.authenticate_sasl(make_mechanism())
        check_dead(client)


def test_a_server_that_refuses_ehlo_under_the_layer() -> None:
    with serving(servers.refuses_ehlo) as port:
        client = connect(port)
        with pytest.raises(smtplib.SMTPHeloError, match="554"):
            client.authenticate_sasl(make_mechanism())
        check_dead(client)


def test_a_server_without_auth() -> None:
    with serving(servers.without_auth) as port:
        client = connect(port)
        with pytest.raises(smtplib.SMTPNotSupportedError, match="does not offer AUTH"):
            client.authenticate_sasl(make_mechanism())
        assert client.has_extn("8bitmime")
        check_sends_no_mail(client)
        client.close()


def test_what_came_in_clear_is_not_believed_under_the_layer() -> None:
    room = MailRoom()
    with serving(servers.injecting(room)) as port, connect(port) as client:
        client.ehlo()
        assert client.has_extn("x-in-clear")
        client.authenticate_sasl(make_mechanism())
        assert sorted(client.esmtp_features) == ["8bitmime", "size", "smtputf8"]
        client.sendmail(SENDER, RECIPIENT, TEXT)
    assert room.mails[0].content == TEXT


def test_a_server_that_says_nothing_more() -> None:
    with serving(servers.answering(b"")) as port:
        client = SMTP("127.0.0.1", port, NAME, timeout=0.2)
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out") as caught:
            client.authenticate_sasl(make_mechanism())
        assert isinstance(caught.value.__cause__, TimeoutError)
        check_dead(client)
