from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from saslwrap import DigestMD5Client, SecurityProperties, UsageError
from saslwrap.context import SecurityContext
from saslwrap.errors import AuthenticationError, NegotiationError, ProtocolError
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step, transport_survives
from saslwrap.mechanism import ClientMechanism
from saslwrap.properties import ChannelInfo
from saslwrap.protocols.ldap_login import DowngradeError, LDAPLogin
from saslwrap.protocols.ldap_messages import ResultCode, decode, encode, result
from saslwrap.testing import context_pair

WEAK = 56
STRONG = 256


class Candidate(ClientMechanism):
    """A mechanism of one message, whose context is that of a real DIGEST-MD5 login, or None."""

    name = "WEAK"
    reach = WEAK

    def __init__(self, context: SecurityContext | None = None) -> None:
        super().__init__()
        self._made = context
        self.gone = False

    @classmethod
    def best_ssf(cls, properties: SecurityProperties, external_ssf: int = 0) -> int | None:
        return 0 if external_ssf else cls.reach

    def _step(self, message: bytes | None) -> bytes | None:
        self._finish(self._made)
        return b"let me in"

    def _forget(self) -> None:
        self.gone = True

    @property
    def channel(self) -> ChannelInfo:
        return self._channel


class Strong(Candidate):
    name = "STRONG"
    reach = STRONG


def a_context() -> SecurityContext:
    client, _ = context_pair()
    return client


def names(message_id: int, *offered: str, attribute: str = "supportedSASLMechanisms") -> bytes:
    values = [name.encode() for name in offered]
    attributes = [{"type": attribute.encode(), "vals": values}] if offered else []
    entry = {"objectName": b"", "attributes": attributes}
    return encode(message_id, "searchResEntry", entry) + done(message_id)


def done(message_id: int, code: int = ResultCode.success) -> bytes:
    return encode(message_id, "searchResDone", result(code))


def bound(message_id: int, code: int = ResultCode.success) -> bytes:
    return encode(message_id, "bindResponse", result(code))


def run(exchange: Exchange, *answers: bytes) -> list[bytes]:
    """Turn the crank, with an answer to each request; what was sent."""
    sent: list[bytes] = []
    left = list(answers)
    while True:
        match exchange.advance():
            case Send(data):
                sent.append(data)
            case NeedData():
                exchange.receive_data(left.pop(0))
            case Step():
                exchange.step()
            case Done():
                assert not left
                return sent


def test_it_asks_chooses_and_binds() -> None:
    weak, strong = Candidate(), Strong()
    login = LDAPLogin([weak, strong], message_id=7)
    assert login.offered is None
    asked, bind = run(login, names(7, "weak", "strong", "OTHER"), bound(8))
    search = decode(asked)
    assert (search.message_id, search.operation) == (7, "searchRequest")
    assert search.value == {
        "baseObject": b"",
        "scope": 0,
        "derefAliases": 0,
        "sizeLimit": 0,
        "timeLimit": 0,
        "typesOnly": False,
        "filter": ("present", b"objectClass"),
        "attributes": [b"supportedSASLMechanisms"],
    }
    request = decode(bind)
    assert request.message_id == 8
    assert request.value["authentication"][1]["mechanism"] == b"STRONG"
    assert login.offered == ["WEAK", "STRONG", "OTHER"]
    assert login.next_message_id == 9
    assert login.mechanism is strong
    assert weak.gone


def test_the_channel_counts_in_the_choice_and_reaches_the_mechanism() -> None:
    weak, strong = Candidate(), Strong()
    login = LDAPLogin([weak, strong])
    info = ChannelInfo(external_ssf=256)
    login.bind_channel(info)
    run(login, names(1, "STRONG", "WEAK"), bound(2))
    assert login.mechanism is weak  # the first of equals: neither gives a layer
    assert weak.channel is info


def test_nothing_that_we_have_is_offered() -> None:
    login = LDAPLogin([Candidate()])
    with pytest.raises(NegotiationError, match="the server offers OTHER; wanted: WEAK with"):
        run(login, names(1, "OTHER"))


@pytest.mark.parametrize(
    "answer", [done(1), names(1), done(1, ResultCode.insufficientAccessRights)]
)
def test_a_server_that_names_none(answer: bytes) -> None:
    login = LDAPLogin([Candidate()])
    with pytest.raises(NegotiationError, match="the server offers no mechanism") as raised:
        run(login, answer)
    assert transport_survives(raised.value)


def test_a_refused_search_has_named_none() -> None:
    login = LDAPLogin([Candidate()])
    entry = names(1, "WEAK").removesuffix(done(1))
    with pytest.raises(NegotiationError, match="the server offers no mechanism"):
        run(login, entry + done(1, ResultCode.sizeLimitExceeded))
    assert login.offered is None


def test_a_name_that_is_none_is_offered_to_nobody() -> None:
    login = LDAPLogin([Candidate()])
    run(login, names(1, "WEAK\N{LATIN SMALL LETTER U WITH DIAERESIS}", "weak"), bound(2))
    assert login.offered == ["WEAK\ufffd\ufffd", "WEAK"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (done(2), "searchResDone with message id 2 while its mechanisms were asked for"),
        (bound(1), "the server answered a search by bindResponse"),
        (b"HTTP/1.1 400 Bad Request\r\n", "what looks like text"),
    ],
)
def test_an_answer_to_something_else(answer: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        run(LDAPLogin([Candidate()]), answer)


def test_without_a_layer_nothing_follows() -> None:
    login = LDAPLogin([Candidate()])
    run(login, names(1, "WEAK"), bound(2))
    assert login.follow_up() is None


def logged_in(*offered: str) -> tuple[LDAPLogin, Exchange]:
    context = a_context()
    login = LDAPLogin([Candidate(context), Strong(context)])
    run(login, names(1, *offered), bound(2))
    after = login.follow_up()
    assert after is not None
    return login, after


@pytest.mark.parametrize(
    "again",
    [
        ("WEAK",),
        ("WEAK", "PLAIN", "LOGIN"),  # what none of our mechanisms is, is of no interest
        ("STRONG",),
        (),
    ],
)
def test_under_the_layer_the_list_is_read_again(again: tuple[str, ...]) -> None:
    offered = ("WEAK", "STRONG") if "STRONG" in again else ("WEAK",)
    login, after = logged_in(*offered)
    (asked,) = run(after, names(3, *again))
    assert decode(asked).message_id == 3
    assert login.next_message_id == 4


def test_a_mechanism_that_was_struck_out_is_a_downgrade() -> None:
    _, after = logged_in("WEAK", "OTHER")
    with pytest.raises(DowngradeError, match="the server has STRONG, which was missing") as raised:
        run(after, names(3, "WEAK", "strong"))
    assert raised.value.hidden == "STRONG"
    assert not transport_survives(raised.value)


def test_what_comes_behind_the_second_list_is_the_application_s() -> None:
    _, after = logged_in("WEAK")
    run(after, names(3, "WEAK") + b"more")
    assert after.trailing_data == b"more"


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301 - our own
def test_the_error_can_be_copied(duplicate: Callable[[DowngradeError], DowngradeError]) -> None:
    error = DowngradeError("STRONG", "WEAK")
    other = duplicate(error)
    assert (type(other), str(other), other.hidden) == (type(error), str(error), "STRONG")


def test_an_abort_hears_the_answer_that_is_due() -> None:
    login = LDAPLogin([Candidate()])
    assert isinstance(login.advance(), Send)
    assert isinstance(login.advance(), NeedData)
    assert login.abort() == b""
    assert isinstance(login.advance(), NeedData)
    login.receive_data(names(1, "WEAK") + b"rest")
    with pytest.raises(AuthenticationError, match="aborted on our side"):
        login.advance()
    assert login.trailing_data == b"rest"


def test_an_abort_during_the_bind() -> None:
    login = LDAPLogin([Candidate()])
    assert isinstance(login.advance(), Send)
    assert isinstance(login.advance(), NeedData)
    login.receive_data(names(1, "WEAK"))
    assert isinstance(login.advance(), Step)
    login.step()
    assert isinstance(login.advance(), Send)
    assert login.abort() == b""
    assert isinstance(login.advance(), NeedData)
    login.receive_data(bound(2, ResultCode.invalidCredentials))
    with pytest.raises(AuthenticationError, match="aborted on our side"):
        login.advance()


def test_a_login_takes_candidates() -> None:
    with pytest.raises(UsageError, match="one mechanism or more"):
        LDAPLogin([])


def test_with_a_real_mechanism() -> None:
    digest = DigestMD5Client("alice", "s3cret", service="ldap", host="localhost")
    login = LDAPLogin([digest])
    with pytest.raises(NegotiationError, match="DIGEST-MD5"):
        run(login, names(1, "EXTERNAL"))
    assert digest._password == ""
