"""What a client of SMTP may send, and when: the gate that smtplib and aiosmtplib share."""

from __future__ import annotations

import pytest

from saslwrap import UsageError
from saslwrap.clients._smtp import Gate, refusal_code, refuse
from saslwrap.protocols.smtp import SMTPAuth
from tests.played import PlayedClient

ONE, ANOTHER = object(), object()

LEADS_TO_A_LOGIN = [
    "EHLO c",
    "lhlo c",
    "HELO c",
    "STARTTLS",
    "AUTH PLAIN AGE=",
    "NOOP",
    "rset",
    "QUIT",
]
MAIL = ["mail FROM:<bob@example.com>", "RCPT TO:<alice@example.com>", "DATA", "data", "VRFY alice",
        "expn all", "HELP", "AUTHOR x", "NOOP\tx", "", "AGE=", "*"]  # fmt: skip
BODY = b"AUTH me\r\n\r\nSTARTTLS\r\n.\r\n"


def make_gate(*, begun: bool = True) -> Gate:
    gate = Gate()
    if begun:
        gate.begin(ONE)
    return gate


def sends(gate: Gate, line: str, connection: object = ONE) -> bool:
    """Whether it may go out, as a line of smtplib's and of aiosmtplib's."""
    as_text = gate.judge(connection, line + "\r\n")
    as_octets = gate.judge(connection, line.encode() + b"\r\n")
    assert str(as_text) == str(as_octets)
    return as_octets is None


@pytest.mark.parametrize("line", LEADS_TO_A_LOGIN + MAIL)
def test_before_a_login_everything_goes(line: str) -> None:
    assert sends(make_gate(begun=False), line)


@pytest.mark.parametrize("line", LEADS_TO_A_LOGIN)
def test_what_leads_to_a_login(line: str) -> None:
    assert sends(make_gate(), line)


@pytest.mark.parametrize("line", MAIL)
def test_what_waits_for_a_login(line: str) -> None:
    gate = make_gate()
    assert not sends(gate, line)
    with pytest.raises(UsageError, match="log in before mail goes out in clear"):
        refuse(gate.judge(ONE, line + "\r\n"))
    assert gate.judge(ONE, BODY) is not None
    gate.open(ONE)
    assert sends(gate, line)
    assert gate.judge(ONE, BODY) is None
    assert not sends(gate, line, ANOTHER)  # a new connection is in clear


def test_no_connection_is_the_library_s_to_tell() -> None:
    assert sends(make_gate(), MAIL[0], None)
    assert not make_gate().is_open(None)


def test_behind_a_login() -> None:
    gate = make_gate()
    gate.open(ONE)
    with pytest.raises(UsageError, match="one login a connection"):
        gate.begin(ONE)
    with pytest.raises(UsageError, match="one login a connection"):
        refuse(gate.judge(ONE, b"auth PLAIN AGE=\r\n"))
    with pytest.raises(UsageError, match="before the login"):
        refuse(gate.judge(ONE, "STARTTLS\r\n"))
    gate.begin(ANOTHER)


def test_a_login_of_the_library() -> None:
    gate = make_gate()
    assert sends(gate, "AUTH LOGIN")
    gate.hear(ONE, 334)
    assert not sends(gate, MAIL[0])  # of another task
    assert not sends(gate, "DATA")
    assert not sends(gate, "AGE=", ANOTHER)
    gate.hear(ONE, 334)
    assert not sends(gate, "AGE=")  # that was no challenge: nothing had been asked
    sends(gate, "AUTH LOGIN")
    gate.hear(ONE, 334)
    assert sends(gate, "AGE=")
    gate.hear(ONE, 235)
    assert gate.is_open(ONE)


@pytest.mark.parametrize("status", [250, 334, 503, 535])
def test_only_235_is_a_login(status: int) -> None:
    gate = make_gate()
    sends(gate, "AUTH PLAIN AGE=")
    gate.hear(ONE, status)
    assert not gate.is_open(ONE)


def test_only_an_answer_to_a_login_is_one() -> None:
    gate = make_gate()
    sends(gate, "NOOP")
    gate.hear(ONE, 235)
    sends(gate, "AUTH PLAIN AGE=")
    gate.hear(ONE, 535)
    gate.hear(ONE, 235)
    assert not gate.is_open(ONE)


def test_a_client_that_has_logged_in_by_the_library_has_its_login() -> None:
    gate = make_gate(begun=False)
    sends(gate, "AUTH PLAIN AGE=")
    gate.hear(ONE, 235)
    assert sends(gate, "AUTH PLAIN AGE=")  # as the library has it
    with pytest.raises(UsageError, match="one login a connection"):
        gate.begin(ONE)


@pytest.mark.parametrize(
    ("status", "code"),
    [("454", 454), ("501", 501), ("534", 534), ("535", 535), ("235", 535), (None, 535)],
)
def test_the_code_of_a_refusal_is_the_server_s(status: str | None, code: int) -> None:
    """And 535, which is permanent, of one that is not: a success without proof was said by 235."""
    login = SMTPAuth(PlayedClient())
    login.status = status
    assert refusal_code(login) == code
