"""Octets from one process to another, over TCP on the loopback and a stack.

    python -m tests.bench.loopback FOLDER STACK             the receiver; it tells its port
    python -m tests.bench.loopback FOLDER STACK PORT        the sender

The sender is told `send SIZE COUNT` and sends that, one message after the other. The time is its
own, on the wall, from the first message until the receiver's word that it has them all; as CPU time
counts that of the busier process of the two.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from time import perf_counter_ns, process_time_ns

from anyio import BrokenResourceError, EndOfStream

from tests.bench.child import python_child
from tests.bench.stacks import Stream, stack_named
from tests.certificate import CERTIFICATE, write_certificate
from tests.peers.libsasl2_peer import end_with_input

__all__ = ["Loopback", "start_loopback"]

_NUMBER_OCTETS = 8


class Loopback:
    """Both processes, connected."""

    def __init__(self, folder: Path, name: str) -> None:
        command = ("tests.bench.loopback", str(folder), name)
        self._receiver = python_child(*command)
        self._sender = python_child(*command, self._receiver.line().strip())
        self.contestant = partial(self._sender.contestant, "send")

    def close(self) -> None:
        """End both."""
        self._sender.close()
        self._receiver.close()


def start_loopback(folder: Path, name: str) -> Loopback:
    """Start a stack by its name, with a certificate to be had."""
    if not (folder / CERTIFICATE).exists():
        write_certificate(folder)
    return Loopback(folder, name)


# From here on: in the processes.


async def exactly(stream: Stream, size: int) -> bytes:
    """Receive at least so many octets. An end is anyio's, whatever is below."""
    data = b""
    while len(data) < size:
        if not (piece := await stream.receive()):
            raise EndOfStream
        data += piece
    return data


async def burst(stream: Stream, size: int, count: int) -> tuple[int, int]:
    """Send, and hear that it came; give nanoseconds on the wall and the CPU."""
    message = bytes(size)
    wall, cpu = perf_counter_ns(), process_time_ns()
    await stream.send((size * count).to_bytes(_NUMBER_OCTETS))
    for _ in range(count):
        await stream.send(message)
    at_receiver = int.from_bytes(await exactly(stream, _NUMBER_OCTETS))
    cpu = process_time_ns() - cpu
    return perf_counter_ns() - wall, max(cpu, at_receiver)


async def send(folder: Path, name: str, port: int) -> None:
    """Send as told on standard input, which nothing else has to wait for."""
    stream = await stack_named(name, folder).connect(port)
    for line in sys.stdin:
        _, size, count = line.split()
        wall, cpu = await burst(stream, int(size), int(count))
        say(f"{wall} {cpu}")


async def take(stream: Stream) -> None:
    """Take what comes, burst by burst."""
    while True:
        data = await exactly(stream, _NUMBER_OCTETS)
        cpu = process_time_ns()
        missing = int.from_bytes(data[:_NUMBER_OCTETS]) - len(data) + _NUMBER_OCTETS
        while missing:
            missing -= len(await stream.receive())
        await stream.send((process_time_ns() - cpu).to_bytes(_NUMBER_OCTETS))


async def take_all(stream: Stream) -> None:
    """Take bursts until the sender is gone."""
    with suppress(EndOfStream, BrokenResourceError):
        await take(stream)


def say(line: object) -> None:
    """Answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(folder: str, name: str, port: str | None = None) -> None:
    """Receive, or send to a port."""
    if port is not None:
        asyncio.run(send(Path(folder), name, int(port)))
    else:
        Thread(target=end_with_input, daemon=True).start()
        asyncio.run(stack_named(name, Path(folder)).serve(take_all, say))


if __name__ == "__main__":
    main(*sys.argv[1:])
