"""How much memory an idle connection takes, client and server in processes of their own.

For each stack two new processes connect to each other many times over. The first fifth of the
connections fills the memory that was free already and makes what is made once; what an endpoint
takes is what its process grows by for each of the others, after the garbage is collected.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from saslwrap.testing.pairs import PROTECTIONS
from tests.certificate import CERTIFICATE, KEY, write_certificate
from tests.measure.idle_stacks import STACKS, Plan
from tests.measure.memory import Memory
from tests.measure.process import Child, questions, raise_file_limit
from tests.measure.report import Report, table

__all__ = ["Row", "add_arguments", "measure", "run"]

#: What the others are held against.
CONTROL = "plain asyncio"

#: The part of the connections that is not counted.
FIRST = 1 / 5

#: How many are under way at the same time.
AT_ONCE = 8

#: Files that a process has open beside its connections.
SPARE_FILES = 64


@dataclass(frozen=True)
class Row:
    """One end of one stack, in KiB a connection, and how much that is beyond plain asyncio.

    :param rss: by what is resident
    :param pss: the same, with shared pages divided among those who share them
    """

    stack: str
    end: str
    rss: float
    pss: float
    beyond_rss: float = 0.0
    beyond_pss: float = 0.0


def serve(pipe: Connection, stack: str, plan: Plan) -> None:
    """Be the server: tell the port, then the memory each time it is asked for."""
    anyio.run(_serve, pipe, stack, plan)


async def _serve(pipe: Connection, stack: str, plan: Plan) -> None:
    async with anyio.create_task_group() as tasks:
        server = STACKS[stack](plan)
        pipe.send(await server.serve(tasks))
        async for _ in questions(pipe):
            pipe.send(Memory.now())
        tasks.cancel_scope.cancel()


def connect(pipe: Connection, stack: str, plan: Plan, port: int) -> None:
    """Be the client: have as many connections as is said each time, and tell the memory."""
    anyio.run(_connect, pipe, stack, plan, port)


async def _connect(pipe: Connection, stack: str, plan: Plan, port: int) -> None:
    client = STACKS[stack](plan)
    held: list[Callable[[], object]] = []

    async def open_some(count: int) -> None:
        for _ in range(count):
            held.append(await client.connect(port))

    async for wanted in questions(pipe):
        missing = wanted - len(held)
        async with anyio.create_task_group() as tasks:
            for place in range(AT_ONCE):
                tasks.start_soon(open_some, len(range(place, missing, AT_ONCE)))
        pipe.send(Memory.now())
    for close in held:
        close()


def measure(stack: str, plan: Plan, connections: int) -> list[Row]:
    """Measure both ends of a stack, in two new processes."""
    with Child(serve, stack, plan) as server:
        port = server.answer()
        with Child(connect, stack, plan, port) as client:
            first = round(connections * FIRST)
            before = client.ask(first), server.ask("memory")
            after = client.ask(connections), server.ask("memory")
    return [
        Row(stack, end, *grown(*pair, connections - first))
        for end, pair in zip(("client", "server"), zip(before, after, strict=True), strict=True)
    ]


def grown(before: Memory, after: Memory, connections: int) -> tuple[float, float]:
    """What a connection takes, by RSS and by PSS."""
    return (after.rss - before.rss) / connections, (after.pss - before.pss) / connections


def beyond(rows: Iterable[Row], control: Iterable[Row]) -> list[Row]:
    """Say how much each end takes beyond the same end of the control."""
    plain = {row.end: row for row in control}
    return [
        replace(
            row,
            beyond_rss=row.rss - plain[row.end].rss,
            beyond_pss=row.pss - plain[row.end].pss,
        )
        for row in rows
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Tell argparse what this takes."""
    parser.add_argument("--connections", type=int, default=5000, help="of each stack")
    parser.add_argument("--protection", choices=PROTECTIONS, default="rc4", help="of the layer")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=list(STACKS))


def run(arguments: Namespace) -> Report:
    """Measure the stacks, plain asyncio in any case."""
    raise_file_limit(arguments.connections + SPARE_FILES)
    with TemporaryDirectory() as folder:
        plan = Plan(arguments.protection, Path(folder, CERTIFICATE), Path(folder, KEY))
        write_certificate(Path(folder))
        control = measure(CONTROL, plan, arguments.connections)
        others = [name for name in arguments.stacks if name != CONTROL]
        rows = [row for name in others for row in measure(name, plan, arguments.connections)]
    rows = beyond([*control, *rows], control)
    return Report(
        f"{arguments.connections} idle connections, {arguments.protection}: KiB an endpoint",
        table(HEAD, map(_line, rows)),
        [asdict(row) for row in rows],
    )


HEAD = ("stack", "end", "RSS", "PSS", "beyond plain: RSS", "PSS")


def _line(row: Row) -> Sequence[str]:
    numbers = row.rss, row.pss, row.beyond_rss, row.beyond_pss
    return row.stack, row.end, *(f"{number:.1f}" for number in numbers)
