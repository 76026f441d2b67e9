"""One half of an exchange, driven to its end against a peer that is bent.

The peer is one of two: octets that were written before, whatever the half says; or the genuine
other half, with an attacker in between who passes on, edits, repeats, drops or forges. Whatever
arrives comes in pieces.

What has to hold of every exchange: a login that nobody touched succeeds; what is left in
`trailing_data` is the end of what arrived; a failure lasts, and nothing is stored after it; there
is an end, with success only for a mechanism that is satisfied, and never for a login that was given
up; and it is the same for any pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from saslwrap.errors import SASLError
from saslwrap.exchange import Done, Event, Exchange, NeedData, Send, Step
from saslwrap.testing.pairs import PASSWORD
from tests.fuzz.reader import Reader, cut
from tests.fuzz.target import same_error

#: Turns of a login, and of whatever else a peer may draw it out with.
MOST_TURNS = 24

#: Of what is put behind a message: up to 128 KiB, over the limit of a line.
MOST_DOUBLINGS = 10

#: Makes a message that a peer might have sent, of nothing or of the genuine one.
Forge: TypeAlias = Callable[[Reader, bytes], bytes]


class Peer(Protocol):
    """The other side."""

    def answer(self, said: bytes) -> bytes:
        """Hear what was said, and answer; `b""` is the end."""


@dataclass
class Recording:
    """A peer whose octets were written before."""

    octets: bytes

    def answer(self, said: bytes) -> bytes:
        octets, self.octets = self.octets, b""
        return octets


class Genuine:
    """The other half, itself; it falls silent where it fails or is done."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def answer(self, said: bytes) -> bytes:
        self._exchange.receive_data(said)
        answer = b""
        try:
            while True:
                match self._exchange.advance():
                    case Send(data):
                        answer += data
                    case Step():
                        self._exchange.step()
                    case NeedData() | Done():
                        return answer
        except SASLError:
            return answer


class Between:
    """An attacker between a half and its peer."""

    def __init__(self, reader: Reader, peer: Peer, forge: Forge) -> None:
        self._reader = reader
        self._peer = peer
        self._forge = forge
        self._former = b""
        self._turns = 0
        self.has_bent = False

    def answer(self, said: bytes) -> bytes:
        self._turns += 1
        genuine = self._peer.answer(said)
        answer = self._bend(genuine) if self._turns < MOST_TURNS else genuine
        self._former = genuine or self._former
        self.has_bent |= answer != genuine
        return answer

    def _flood(self) -> bytes:
        octets = self._reader.octets()
        return octets * (1 << self._reader.number() % MOST_DOUBLINGS)

    def _bend(self, genuine: bytes) -> bytes:
        match self._reader.number() % 8:
            case 1:
                return self._reader.edited(genuine)
            case 2:
                return self._forge(self._reader, genuine)
            case 3:
                return self._former
            case 4:
                return genuine + self._flood()
            case 5:
                return self._forge(self._reader, genuine) + genuine
            case _:
                return genuine


@dataclass
class Talk:
    """What was said and heard, and what came of it.

    :param sizes: of the pieces
    :param patience: how often the half waits before it gives up; 0 is for ever
    :ivar stored: how many octets it kept while it was under way, beside the last piece, at most
    """

    half: Exchange
    peer: Peer
    sizes: list[int]
    patience: int = 0
    said: list[bytes] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    fault: SASLError | None = None
    stored: int = 0
    _unheard: Iterator[bytes] = field(default_factory=lambda: iter(()))
    _answered: int = 0
    _ended: bool = False
    _waited: int = 0

    def run(self) -> None:
        """Drive the half to its end."""
        try:
            while not isinstance(event := self.half.advance(), Done):
                self._do(event)
            assert not 0 < self.patience <= self._waited, "a login that was given up succeeded"
            judge_success(self.half)
        except SASLError as error:
            self.fault = error
            judge_failure(self.half, error)
        for piece in self._unheard:
            self._hear(piece)

    def _do(self, event: Event) -> None:
        match event:
            case Send(data):
                assert PASSWORD.encode() not in data, "it says the password"
                self.said.append(data)
            case _ if self._gives_up():
                self.said.append(self.half.abort())
            case Step():
                self.half.step()
            case _:
                self._listen()

    def _gives_up(self) -> bool:
        self._waited += 1
        return self._waited == self.patience

    def _listen(self) -> None:
        if (piece := next(self._unheard, None)) is None:
            answer = self.peer.answer(b"".join(self.said[self._answered :]))
            self._answered, self._unheard = len(self.said), cut(answer, self.sizes)
            piece = next(self._unheard, None)
        if piece is not None:
            self._hear(piece)
            self.stored = max(self.stored, len(self.half.trailing_data) - len(piece))
            return
        assert not self._ended, "it waits for what cannot come"
        self._ended = True
        self.half.receive_eof()

    def _hear(self, piece: bytes) -> None:
        self.half.receive_data(piece)
        self.heard += piece
        rest = self.half.trailing_data
        assert self.fault or self.heard.endswith(rest), "what is left is not what came last"
        assert len(rest) <= len(self.heard), "more is stored than arrived"

    @property
    def taken(self) -> bytes:
        """What was heard and is not left, once it is done."""
        return bytes(self.heard).removesuffix(self.half.trailing_data)

    def finish(self) -> Exchange:
        """Give the half.

        :raises SASLError: what it raised
        """
        if self.fault:
            raise self.fault
        return self.half

    @property
    def outcome(self) -> tuple[list[bytes], str, bytes]:
        """What must not depend on how the octets arrived."""
        fault = type(self.fault).__name__ if self.fault else ""
        return self.said, fault, b"" if self.fault else self.half.trailing_data


def judge_success(half: Exchange) -> None:
    """Hold that a login that is done has a mechanism that is satisfied, and stays done."""
    assert isinstance(half.advance(), Done)
    assert half.mechanism is None or half.mechanism.complete, "success without a proof"
    context = half.context if half.mechanism else None
    assert context is None or context.alive


def judge_failure(half: Exchange, fault: SASLError) -> None:
    """Hold that a failure lasts, that nothing is stored after it, and that no key outlives it."""
    same_error(half.advance, fault)
    rest = half.trailing_data
    half.receive_data(b"more")
    assert half.trailing_data == rest, "a login that failed keeps what arrives"
    mechanism = half.mechanism
    if mechanism and mechanism.complete and mechanism.context:
        assert not mechanism.context.alive, "a login that failed left its keys"


@dataclass(frozen=True)
class Login:
    """A login of which one half is attacked.

    :param make_half: makes that half
    :param make_peer: makes the genuine other one
    :param forge: makes a message that the peer might have sent
    :param check: holds what was said and heard
    :param is_possible: whether it succeeds if nobody stands in between
    """

    make_half: Callable[[], Exchange]
    make_peer: Callable[[], Exchange]
    forge: Forge
    check: Callable[[Talk], None]
    is_possible: bool = True

    def attack(self, reader: Reader) -> Exchange:
        """Attack, as the input says: from between; or with octets, cut in two ways.

        :raises SASLError: what the half raised
        """
        sizes, how = reader.sizes(), reader.number()
        patience, is_between = divmod(how, 2)
        if is_between:
            between = Between(reader, Genuine(self.make_peer()), self.forge)
            talk = self._talk(between, sizes, patience)
            untouched = self.is_possible and not (between.has_bent or patience)
            assert not (untouched and talk.fault), f"an untouched login failed: {talk.fault}"
            return talk.finish()
        octets = reader.rest()
        talk = self._talk(Recording(octets), sizes, patience)
        if not patience:
            at_once = self._talk(Recording(octets), [0])
            assert talk.outcome == at_once.outcome, (talk.outcome, at_once.outcome)
        return talk.finish()

    def _talk(self, peer: Peer, sizes: list[int], patience: int = 0) -> Talk:
        talk = Talk(self.make_half(), peer, sizes, patience)
        talk.run()
        self.check(talk)
        return talk

    def recording(self) -> bytes:
        """What the peer says where nobody stands in between."""
        talk = Talk(self.make_half(), Genuine(self.make_peer()), [0])
        talk.run()
        return bytes(talk.heard)

    def seeds(self, head: bytes) -> Iterator[bytes]:
        """Inputs for the untouched login, in three ways to cut it, and for an attacker between.

        :param head: what chose this login
        """
        for sizes in (bytes(3), b"\1\1\1", b"\5\0\7"):
            yield head + sizes + b"\0" + self.recording()
        for patience in range(1, 6):
            yield head + bytes(3) + bytes([2 * patience + 1])
            yield head + bytes(3) + bytes([2 * patience]) + self.recording()
        for turn in range(4):
            for way in range(1, 6):
                yield head + bytes(3) + b"\1" + bytes(turn) + bytes([way, 1, 0, 9, 3]) + b"abc\1"
