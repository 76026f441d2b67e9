"""The rows, and what is asked of ours in each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench import contests
from tests.bench.arrival import MIB
from tests.bench.imports import import_mechanisms, import_package
from tests.bench.row import Figure, Row

__all__ = ["ROWS"]

CALLS = ("seal", "unseal")


#: Protection, size, operations of a burst, figure, what seal and unseal must reach, and the aim.
CYRUS: tuple[tuple[str, int, int, Figure, tuple[float, float], float], ...] = (
    ("rc4", 65000, 100, "speed", (0.95, 0.95), 1.05),
    ("rc4", 4096, 1000, "speed", (0.9, 0.9), 1.0),
    ("auth-int", 65000, 200, "speed", (1.0, 1.0), 1.15),
    ("rc4", 64, 10000, "time", (3.0, 3.5), 2.0),
)


def beside_cyrus() -> Iterator[Row]:
    """A context's calls; and for the record a layer's, since Cyrus' calls make and take frames."""
    for protection, size, count, figure, must, aim in CYRUS:
        for level in contests.LEVELS:
            for call, mark in zip(CALLS, must, strict=True):
                yield Row(
                    f"{level}{protection}-{size}-{call}-cyrus",
                    f"{protection} {size:,} B, {level.replace('-', ' ')}{call} / Cyrus SASL",
                    partial(contests.cyrus, level, protection, size, call),
                    count,
                    figure=figure,
                    must=None if level else mark,
                    aim=None if level else aim,
                    octets=size,
                )


def in_memory() -> Iterator[Row]:
    for call in CALLS:
        yield Row(
            f"rc4-65000-{call}-primitives",
            f"rc4 65,000 B, {call} / its primitives alone",
            partial(contests.primitives, 65000, call),
            100,
            must=0.9,
            aim=0.97,
            octets=65000,
        )
    for call in CALLS:
        yield Row(
            f"3des-65000-{call}-jdk",
            f"3des 65,000 B, {call} / JDK",
            partial(contests.jdk, "3des", 65000, call),
            10,
            must=1.4,
            aim=1.7,
            octets=65000,
        )
    for call in CALLS:
        yield Row(
            f"gssapi-65536-{call}-pyspnego",
            f"GSSAPI sealed 64 KiB, {call} / pyspnego",
            partial(contests.pyspnego, 65536, call),
            100,
            must=0.9,
            aim=0.97,
            octets=65536,
        )
    yield Row(
        "rc4-65000-threads-primitives",
        "rc4 65,000 B, two threads: scaling / that of the primitives",
        partial(contests.threads, 65000),
        100,
        must=0.9,
        aim=1.0,
        clock="wall",
    )


def over_loopback() -> Iterator[Row]:
    for ours, theirs, size, count, must, aim in (
        ("asyncio-auth-int", "asyncio-tls", 64000, 200, 1.0, 1.2),
        ("asyncio-rc4", "asyncio-tls", 64000, 200, None, None),
        ("anyio-rc4", "anyio-tls", 64000, 200, None, None),
        ("asyncio-auth-int", "asyncio-tls", 256, 5000, 1.0, 1.2),
        ("asyncio-rc4", "asyncio-tls", 256, 5000, 1.0, 1.2),
        ("anyio-auth-int", "anyio-tls", 256, 2000, 1.0, 1.2),
        ("anyio-rc4", "anyio-tls", 256, 2000, 1.0, 1.2),
        ("asyncio-rc4", "asyncio-plain", 256, 5000, None, None),
    ):
        yield Row(
            f"{ours}-{size}-{theirs}",
            f"{ours.replace('-', ' ', 1)} shell, {size:,} B writes / {theirs.replace('-', ' ')}",
            partial(contests.stacks, ours, theirs, size),
            count,
            must=must,
            aim=aim,
            octets=size,
        )
    yield Row(
        "asyncio-rc4-64000-calls",
        "asyncio rc4 shell, 64,000 B writes / the slower of seal and unseal",
        partial(contests.shell_and_calls, "rc4", 64000),
        200,
        must=0.8,
        aim=0.9,
        octets=64000,
    )
    yield Row(
        "login-ldapsearch",
        "a login and a search at slapd, time / ldapsearch, its process included",
        contests.logins,
        5,
        figure="time",
    )


#: How many octets arrive at a time, and those of a frame.
ARRIVALS = (
    (1, 65000),
    (100, 4096),
    (1448, 65000),
    (1448, 16_000_000),
    (65536, 100),
    (65536, 65000),
    (MIB, 4096),
    (16 * MIB, 100),
    (16 * MIB, 65000),
    (16 * MIB, 16_000_000),
)


def beside_ourselves() -> Iterator[Row]:
    yield Row(
        "rc4-100-in-one-read",
        "1 MiB of 100 B rc4 frames in one read, layer's time a frame / a bare unseal",
        partial(contests.frames, 100),
        1,
        figure="time",
        must=2.0,
        aim=1.3,
    )
    yield Row(
        "import",
        "import saslwrap, time / its dependencies alone",
        partial(contests.imports, import_package),
        1,
        figure="time",
        must=1.3,
        aim=1.1,
    )
    yield Row(
        "import-mechanisms",
        "import saslwrap and its mechanisms, time / its dependencies alone",
        partial(contests.imports, import_mechanisms),
        1,
        figure="time",
    )
    for piece, frame in ARRIVALS:
        yield Row(
            f"arrival-{piece}-of-{frame}",
            f"{piece:,} B at a time, frames of {frame:,} B: time an octet at 64 MiB / at 1 MiB",
            partial(contests.arrival, piece, frame),
            1,
            figure="time",
            must=1.5,
            aim=1.1,
        )


TABLE = (beside_cyrus, in_memory, over_loopback, beside_ourselves)

ROWS = {row.name: row for rows in TABLE for row in rows()}
