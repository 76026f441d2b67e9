"""Faults that know frames: one is repeated, lost, late, sent back, or says a wrong length.

A frame is held until it is whole, and is one piece then. They start where the layer starts, with
the first octet: where a login comes first, put them into `AfterLogin` or `After`. Frames are
counted from 0.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Final

from saslwrap.errors import ProtocolError, UsageError, require_kind, require_number
from saslwrap.framing import LENGTH_OCTETS, FrameDecoder
from saslwrap.properties import MAX_MAXBUF
from saslwrap.testing.faults.base import Back, End, Fault, Outcome
from saslwrap.testing.faults.octets import CLEARTEXT, injected

__all__ = ["Drop", "FrameFault", "InjectBefore", "Reflect", "Replay", "Swap", "WrongLength"]

#: What four octets can say.
_LONGEST: Final = 256**LENGTH_OCTETS - 1


class FrameFault(Fault):
    """What happens to the frames of one direction. Subclasses say it of their own one.

    :param frame: which one, counted from 0
    :raises UsageError: that is no number, or below 0
    """

    def __init__(self, frame: int = 0) -> None:
        require_number("frame", frame, 0)
        self._frame = frame
        self._passed = 0
        self._decoder = FrameDecoder(MAX_MAXBUF)

    @abstractmethod
    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Give what becomes of the frame, its length included."""

    def let_pass(self, frame: bytes) -> Iterator[Outcome]:
        """Give what becomes of any other frame."""
        yield frame

    def apply(self, data: bytes) -> Iterator[Outcome]:
        """Give frames.

        :raises UsageError: these are no frames
        """
        self._decoder.receive_data(data)
        while (frame := self._next()) is not None:
            its_turn = self._passed == self._frame
            self._passed += 1
            yield from (self.strike if its_turn else self.let_pass)(frame)

    def finish(self) -> Iterator[Outcome]:
        """Give what there is of a frame that will not be whole, and the end."""
        yield self._decoder.clear()
        yield End()

    def _next(self) -> bytes | None:
        try:
            token = self._decoder.next_token()
        except ProtocolError as error:
            raise UsageError(
                f"after {self._passed} frames come octets that are none ({error}): put this fault "
                "into AfterLogin or After, to start where the layer starts, and before others"
            ) from None
        if token is None:
            return None
        frame = len(token).to_bytes(LENGTH_OCTETS, "big") + bytes(token)
        self._decoder.consume()
        return frame


class Replay(FrameFault):
    """A frame comes twice.

    :param frame: which one, counted from 0
    :param later: how many other frames come in between
    :raises UsageError: either is no number, or below 0
    """

    def __init__(self, frame: int = 0, later: int = 0) -> None:
        super().__init__(frame)
        require_number("later", later, 0)
        self._due = frame + later
        self._again = b""

    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Keep the frame, to give it again."""
        self._again = frame
        return self.let_pass(frame)

    def let_pass(self, frame: bytes) -> Iterator[Outcome]:
        """Give the frame, and behind the one that is due the one that was kept."""
        yield frame
        if self._passed - 1 == self._due:
            yield self._again


class Drop(FrameFault):
    """A frame is lost.

    :param frame: which one, counted from 0
    :raises UsageError: that is no number, or below 0
    """

    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Give nothing."""
        return iter(())


class Swap(FrameFault):
    """Two frames change places: one comes behind the next one, or last if there is none.

    :param frame: the first of them, counted from 0
    :raises UsageError: that is no number, or below 0
    """

    _late = b""

    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Hold the frame."""
        self._late = frame
        return iter(())

    def let_pass(self, frame: bytes) -> Iterator[Outcome]:
        """Give the frame, and the one that was held."""
        yield frame
        yield from self._held()

    def finish(self) -> Iterator[Outcome]:
        """Give what was held, and the end."""
        yield from self._held()
        yield from super().finish()

    def _held(self) -> Iterator[Outcome]:
        late, self._late = self._late, b""
        yield late


class Reflect(FrameFault):
    """A frame does not get through; it comes back to who sent it.

    :param frame: which one, counted from 0
    :raises UsageError: that is no number, or below 0
    """

    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Give it back."""
        yield Back(frame)


class InjectBefore(FrameFault):
    """Somebody else's octets come before a frame.

    :param frame: which one, counted from 0
    :param data: what comes in
    :raises UsageError: the place is no number, or below 0; there are no octets to come in
    """

    def __init__(self, frame: int = 0, data: bytes = CLEARTEXT) -> None:
        super().__init__(frame)
        self._data = injected(data)

    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Give the others' octets, and the frame."""
        yield self._data + frame


class WrongLength(FrameFault):
    """A frame says another length than its token has.

    :param change: makes the length that it says of the true one: `lambda true: true + 1`
    :param frame: which one, counted from 0
    :raises UsageError: the first is no function; the other no number, or below 0
    """

    def __init__(self, change: Callable[[int], int], frame: int = 0) -> None:
        super().__init__(frame)
        require_kind("change", change, Callable, "a function, such as lambda true: true + 1")
        self._change = change

    def strike(self, frame: bytes) -> Iterator[Outcome]:
        """Give the frame with the other length.

        :raises UsageError: four octets cannot say it
        """
        token = frame[LENGTH_OCTETS:]
        length = self._change(len(token))
        require_number(f"what change makes of {len(token)}", length, 0, _LONGEST)
        yield length.to_bytes(LENGTH_OCTETS, "big") + token
