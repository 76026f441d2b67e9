"""Whether the time that a token takes to fail tells a wrong MAC from a wrong padding.

The attacker is the `Forger` of the attacks: he knows the keys, so each fault can be had alone. Each
sample is a token of its own against a context of its own, since the first failure ends it; which
fault it has is drawn by lot. All that is made before the clock starts, and `unseal` alone is timed,
up to its error, by `perf_counter_ns`, with the garbage collector off.

    same length       the right padding has one octet, which is what a wrong one is taken for: the
                      HMAC gets as many octets for either fault
    8 octets          the right padding has eight, and the HMAC gets 7 octets less for it
    8, over a block   the same, where those 7 octets cost MD5 a block more

The last is the residue that stays (Lucky 13). There are two controls: an unsealer that returns
before the MAC when the padding is wrong has to be found out; and of one fault against itself
nothing may be found.
"""

from __future__ import annotations

import enum
import gc
import random
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter_ns
from typing import Final, NamedTuple

from saslwrap.context import Buffer, SecurityContext
from saslwrap.errors import IntegrityError
from saslwrap.mechanisms.digest_md5.context import MAC_OCTETS, DigestUnsealer
from tests.attacks.support import BLOCK, Forger, unsealer_of, victim
from tests.measure.report import Report, table
from tests.measure.welch import Cropped, largest_t, welch_t

__all__ = ["CASES", "Case", "Row", "add_arguments", "measure", "run"]


class Fault(enum.Enum):
    """What is wrong with a token."""

    MAC = "bad MAC"
    PADDING = "bad padding"


class Case(NamedTuple):
    """How long the tokens are.

    :param body: octets of message and padding, in front of the MAC: whole blocks of 8 with it
    :param padding: octets of the padding that is right
    """

    body: int
    padding: int


#: MD5 takes blocks of 64 octets. A message of up to 51 fits one with its number (4) and MD5's own
#: end (9); the HMAC's key has a block of its own, before it.
CASES: Final = {
    "same length": Case(body=22, padding=1),
    "8 octets": Case(body=22, padding=8),
    "8, over a block": Case(body=54, padding=8),
}

WRONG_LAST_OCTETS: Final = bytes((0, *range(9, 256)))


@dataclass(frozen=True)
class Row:
    """One case.

    :param samples: of either fault
    :param first_median: time of the first fault in nanoseconds; `second_median` of the other
    :param all_times: Welch's t without cropping, positive where the first fault takes longer
    :param cropped: the largest with it
    """

    cipher: str
    unsealer: str
    case: str
    first: str
    second: str
    samples: int
    first_median: float
    second_median: float
    all_times: Cropped
    cropped: Cropped


class LeakyUnsealer(DigestUnsealer):
    """The classic mistake: a wrong padding is refused before the MAC is computed."""

    __slots__ = ()

    def _authenticate(
        self, sequence: bytes, message: Buffer, received: bytes, well_formed: bool
    ) -> None:
        if not well_formed:
            raise IntegrityError
        super()._authenticate(sequence, message, received, well_formed)


def new_context(cipher: str, *, leaky: bool) -> SecurityContext:
    """Make the context of one sample."""
    context = victim(cipher).context
    if leaky:
        unsealer_of(context).__class__ = LeakyUnsealer
    return context


def forged_token(cipher: str, case: Case, source: random.Random, fault: Fault) -> bytes:
    """Make a token with a random message and MAC, by the same steps for either fault."""
    body = bytearray(source.randbytes(case.body))
    body[-case.padding :] = bytes((case.padding,)) * case.padding
    last_octets = {Fault.MAC: case.padding, Fault.PADDING: source.choice(WRONG_LAST_OCTETS)}
    body[-1] = last_octets[fault]
    return Forger(cipher).token(bytes(body), padding=b"", mac=source.randbytes(MAC_OCTETS))


def time_to_fail(context: SecurityContext, token: bytes) -> int:
    """Measure, in nanoseconds."""
    start = perf_counter_ns()
    try:
        context.unseal(token)
    except IntegrityError:
        return perf_counter_ns() - start
    raise AssertionError("a forged token was accepted")


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the collector from running in the middle of a sample."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure(
    cipher: str,
    name: str,
    samples: int,
    *,
    faults: tuple[Fault, Fault] = (Fault.MAC, Fault.PADDING),
    leaky: bool = False,
) -> Row:
    """Take so many samples of either fault, in random order."""
    source = random.Random(f"{cipher} {name} {leaky}")
    lots = [0, 1] * samples
    source.shuffle(lots)
    times: tuple[list[int], list[int]] = ([], [])
    with no_garbage_collection():
        for lot in lots:
            token = forged_token(cipher, CASES[name], source, faults[lot])
            context = new_context(cipher, leaky=leaky)
            times[lot].append(time_to_fail(context, token))
    return Row(
        cipher=cipher,
        unsealer="leaky" if leaky else "ours",
        case=name,
        first=faults[0].value,
        second=faults[1].value,
        samples=samples,
        first_median=median(times[0]),
        second_median=median(times[1]),
        all_times=welch_t(*times),
        cropped=largest_t(*times),
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Tell argparse what this takes."""
    parser.add_argument("--samples", type=int, default=100_000, help="of either fault")


def run(arguments: Namespace) -> Report:
    """Measure every case, and the control."""
    samples = arguments.samples
    rows = [measure(cipher, name, samples) for cipher in BLOCK for name in CASES]
    for cipher in BLOCK:
        rows.append(measure(cipher, "same length", samples, faults=(Fault.MAC, Fault.MAC)))
        rows.append(measure(cipher, "same length", samples, leaky=True))
    return Report(
        f"failures inside a token, {samples} of either fault: nanoseconds, Welch's t",
        table(HEAD, map(_line, rows)),
        [asdict(row) for row in rows],
    )


HEAD = ("case", "cipher", "unsealer", "faults", "median", "median", "t", "cropped", "at")


def _line(row: Row) -> Sequence[str]:
    return (
        row.case,
        row.cipher,
        row.unsealer,
        f"{row.first}, {row.second}",
        f"{row.first_median:.0f}",
        f"{row.second_median:.0f}",
        f"{row.all_times.t:.1f}",
        f"{row.cropped.t:.1f}",
        f"{row.cropped.percentile:.3f}",
    )
