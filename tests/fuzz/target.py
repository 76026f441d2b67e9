"""What a target is: an attack, what may come of it, and where a fuzzer starts.

A target returns, or raises what the package raised; everything else is a finding. What may be
raised is listed with the target, each type by itself (not its subclasses) and with the reason: a
`UsageError` in particular is never of a peer's making. An allowed error still has to be fit to be
shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from saslwrap.errors import SASLError
from saslwrap.testing.pairs import PASSWORD

#: What may be raised, and why.
Allowed: TypeAlias = Mapping[type[SASLError], str]

CORPUS = Path(__file__).parent / "corpus"

#: The longest text of an error: our own words, and what is quoted of the peer's.
LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Target:
    """One part of the package, under attack.

    :param attack: takes a fuzzer's octets; raises what the package raised, `AssertionError` for
        what must not be
    :param allowed: the types that it may raise, and why
    :param seeds: what a fuzzer starts from, beside the corpus
    :param longest: the longest input that makes sense, in octets
    :param require: skips a test where what the attack needs is not there
    """

    name: str
    attack: Callable[[bytes], None]
    allowed: Allowed
    seeds: Callable[[], Iterable[bytes]]
    longest: int = 4096
    require: Callable[[], None] = lambda: None

    def run(self, data: bytes) -> SASLError | None:
        """Attack; give the allowed error that came of it, if one did.

        :raises AssertionError: what must not be
        :raises Exception: what is not allowed
        """
        try:
            self.attack(data)
        except tuple(self.allowed) as error:
            if type(error) not in self.allowed:
                raise
            check_text(error)
            return error
        return None

    @property
    def folder(self) -> Path:
        """Where its corpus is kept."""
        return CORPUS / self.name

    def corpus(self) -> list[Path]:
        """The files that are kept."""
        return sorted(self.folder.glob("*"))


def check_text(error: SASLError) -> None:
    """Hold an error's text: one printable line, not long, nothing secret; no cause to dig in."""
    text = str(error)
    assert text, "an error without a text"
    assert text.isprintable(), f"a text that is not printable: {text!r}"
    assert len(text) <= LONGEST_TEXT, f"a text of {len(text)} characters: {text!r}"
    assert PASSWORD not in text, "a text shows the password"
    assert error.__cause__ is None, "an error has a cause"


def same_error(call: Callable[[], object], former: SASLError) -> None:
    """Hold that a call fails as it did before: the latch.

    :raises AssertionError: it does not
    """
    latter = None
    try:
        call()
    except SASLError as error:
        latter = error
    assert type(latter) is type(former), f"{latter!r} after {former!r}"
    assert str(latter) == str(former), f"{latter!r} after {former!r}"
