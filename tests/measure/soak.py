"""Many sealed connections at once, faults on a third of them, for minutes: does anything grow?

Client and server are processes of their own on loopback: the anyio shell on uvloop, and the asyncio
shell's streams on asyncio. Logins are real, with DIGEST-MD5 through LDAP's bind, to layers of all
kinds, some with a small maxbuf. Both ends send pseudo-random octets that follow from the
connection's number, and compare each octet that arrives. Each fault of `saslwrap.testing.faults` is
there, in either direction; where it breaks a connection, another takes its place.

While this goes on, each process tells what it holds, after a garbage collection: memory by the
kernel (RSS), by Python's allocator (tracemalloc) and by the C library's (malloc), open files, live
objects by class. A line through the samples shows whether a figure grows. In the end all is closed,
and nothing may be left.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from tests.measure.process import Child
from tests.measure.report import Report, table
from tests.measure.soak_client import connect
from tests.measure.soak_plan import Plan, Sample
from tests.measure.soak_server import serve
from tests.measure.trend import Trend, trend

__all__ = ["End", "add_arguments", "measure", "run"]

#: How often the server is asked whether the last connection is gone.
ASKED, EACH = 100, 0.1


@dataclass(frozen=True)
class End:
    """What one process told.

    :param before: before the first connection; `after` the last
    :param samples: in between, all the time
    """

    before: Sample
    samples: list[Sample]
    after: Sample

    def trends(self) -> dict[str, Trend]:
        """What each figure did."""
        minutes = [sample.minutes for sample in self.samples]
        figures: dict[str, Callable[[Sample], float]] = {
            "RSS, KiB": lambda sample: sample.rss,
            "traced, KiB": lambda sample: sample.traced,
            "malloc, KiB": lambda sample: sample.malloced,
            "files": lambda sample: sample.files,
        }
        rows = {
            name: trend(minutes, [figure(sample) for sample in self.samples])
            for name, figure in figures.items()
        }
        for name in sorted({name for sample in self.samples for name in sample.objects}):
            counts = [sample.objects.get(name, 0) for sample in self.samples]
            rows[name] = trend(minutes, counts)
        return rows

    def left(self) -> dict[str, int]:
        """Which objects are there that were not there before, by class, and open files."""
        more = {
            name: count - self.before.objects.get(name, 0)
            for name, count in {**self.after.objects, "files": self.after.files}.items()
        }
        more["files"] -= self.before.files
        return {name: count for name, count in more.items() if count > 0}


def measure(plan: Plan, samples: int, interval: float, warm_up: int, deaths: int) -> dict[str, End]:
    """Run it, and give what either end told.

    :param samples: how many, every `interval` seconds, after `warm_up` that do not count
    :param deaths: go on until so many connections broke
    """
    with Child(serve, plan) as server:
        port = server.answer()
        at_server = [server.ask("sample")]
        with Child(connect, plan, port) as client:
            at_client = [client.answer()]
            client.answer()  # all are there
            while len(at_client) <= warm_up + samples or _deaths(at_client[-1]) < deaths:
                time.sleep(interval)
                client.tell("sample")
                at_server.append(server.ask("sample"))
                at_client.append(client.answer())
            at_client.append(client.ask("end"))
            at_server.append(_after(server, at_server[0].files))
    return {
        name: End(told[0], told[1 + warm_up : -1], told[-1])
        for name, told in (("client", at_client), ("server", at_server))
    }


def _deaths(sample: Sample) -> int:
    return sum(sample.tally.ends.values())


def _after(server: Child, files: int) -> Sample:
    """Ask until the last connection is gone: the end of one takes its time."""
    for _ in range(ASKED):
        sample: Sample = server.ask("sample")
        if sample.files <= files:
            break
        time.sleep(EACH)
    return sample


def add_arguments(parser: ArgumentParser) -> None:
    """Tell argparse what this takes."""
    parser.add_argument("--connections", type=int, default=2000, help="at once")
    parser.add_argument("--minutes", type=float, default=10.0, help="that are measured")
    parser.add_argument("--warm-up", type=float, default=4.0, help="minutes before")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between samples")
    parser.add_argument(
        "--pace",
        type=float,
        default=4.0,
        help="seconds between messages of a connection, two by two",
    )
    parser.add_argument(
        "--idle", type=float, default=60.0, help="most seconds before a fault has traffic"
    )
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds before a faulty connection gives up"
    )
    parser.add_argument(
        "--deaths", type=int, default=0, help="go on until so many connections broke"
    )


def run(arguments: Namespace) -> Report:
    """Run the soak."""
    plan = Plan(arguments.connections, arguments.pace, arguments.idle, arguments.patience)
    samples, warm_up = (
        round(minutes * 60 / arguments.interval)
        for minutes in (arguments.minutes, arguments.warm_up)
    )
    ends = measure(plan, samples, arguments.interval, warm_up, arguments.deaths)
    return Report(
        f"{plan.connections} sealed connections at once, {arguments.minutes} minutes",
        "\n\n".join(_told(name, end, plan.connections / 10) for name, end in ends.items()),
        {
            "plan": asdict(plan),
            **{
                name: {
                    "tally": asdict(end.after.tally),
                    "left": end.left(),
                    "samples": [_memory(sample) for sample in end.samples],
                    "trends": {figure: asdict(row) for figure, row in end.trends().items()},
                }
                for name, end in ends.items()
            },
        },
    )


def _memory(sample: Sample) -> dict[str, float]:
    names = "minutes", "rss", "traced", "malloced", "files"
    return {name: getattr(sample, name) for name in names}


def _told(name: str, end: End, least: float) -> str:
    """Tell about one end; of objects, those of which there are `least` or more."""
    tally = end.after.tally
    rows = [(figure, row) for figure, row in end.trends().items() if row.most >= least]
    return "\n".join(
        [
            f"{name}: {tally.logins} logins, {tally.messages} messages, {tally.octets} octets "
            f"compared, {tally.wrong} wrong; {sum(tally.ends.values())} broken by faults, "
            f"{len(tally.unexpected)} errors unexplained, such as {tally.unexpected[:3]}",
            f"left in the end: {end.left()}",
            "",
            table(HEAD, (_line(*row) for row in rows)),
        ]
    )


HEAD = ("figure", "mean", "least", "most", "a minute", "2 s.e.")


def _line(figure: str, row: Trend) -> Sequence[str]:
    numbers = row.mean, row.least, row.most, row.slope, row.error
    return figure, *(f"{number:.1f}" for number in numbers)
