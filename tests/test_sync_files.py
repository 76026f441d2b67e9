"""What `makefile` gives over a layer."""

from __future__ import annotations

import gc
import io

import pytest

from tests.support import exactly
from tests.sync_sockets import PATIENCE, Sealed, pair, ready, sockets, talk, to_end

__all__ = ["pair", "sockets"]


@pytest.mark.parametrize("buffering", [None, -1, 3, 8192])
def test_a_binary_file_for_reading(pair: Sealed, buffering: int | None) -> None:
    client, server = pair
    server.sendall(b"* OK first\r\n")
    server.sendall(b"* OK sec")
    server.sendall(b"ond\r\nand ten octets")
    server.close()
    with client.makefile("rb", buffering) as file:
        assert file.readline() == b"* OK first\r\n"
        assert file.readline() == b"* OK second\r\n"
        assert file.read(3) == b"and"
        assert file.read() == b" ten octets"
        assert file.readable()
        assert not file.writable()
        assert file.fileno() == client.fileno()


def test_an_unbuffered_file(pair: Sealed) -> None:
    client, server = pair
    file = client.makefile("rwb", 0)
    assert file.write(b"request") == 7
    assert exactly(server, 7) == b"request"
    server.sendall(b"line\nrest")
    assert file.readline() == b"line\n"
    assert file.read(100) == b"rest"
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


@pytest.mark.parametrize(("mode", "able"), [("rb", False), ("wb", True), ("b", False)])
def test_a_file_has_its_direction(pair: Sealed, mode: str, able: bool) -> None:
    with pair[0].makefile(mode, 0) as file:
        assert file.writable() is able
        assert file.readable() is not able
        with pytest.raises(io.UnsupportedOperation):
            file.read(1) if able else file.write(b"x")


def test_a_file_for_both_directions(pair: Sealed) -> None:
    client, server = pair
    with client.makefile("rwb") as file:
        file.write(b"question\n")
        file.flush()
        assert exactly(server, 9) == b"question\n"
        server.sendall(b"answer\n")
        assert file.readline() == b"answer\n"


def test_a_text_file(pair: Sealed) -> None:
    client, server = pair
    with client.makefile("rw", encoding="utf-8", newline="\r\n") as file:
        file.write("Grüße\n")
        file.flush()
        assert server.recv(100) == "Grüße\r\n".encode()
        server.sendall("für Sie\r\nund".encode())
        assert file.readline() == "für Sie\r\n"


def test_a_text_file_by_default(pair: Sealed) -> None:
    pair[1].sendall(b"text\n")
    with pair[0].makefile(encoding="ascii") as file:
        assert isinstance(file, io.TextIOWrapper)
        assert file.readline() == "text\n"


def test_files_that_cannot_be_made(pair: Sealed) -> None:
    with pytest.raises(ValueError, match="mode 'a'"):
        pair[0].makefile("a")
    with pytest.raises(ValueError, match="binary"):
        pair[0].makefile("r", 0)
    pair[0].close()
    assert pair[0].fileno() == -1, "a file that was not made keeps it open"


def test_a_file_for_writing_sends_what_it_holds_when_closed(pair: Sealed) -> None:
    with pair[0].makefile("wb") as file:
        file.write(b"held")
    assert exactly(pair[1], 4) == b"held"


def test_the_socket_closes_after_its_last_file(pair: Sealed) -> None:
    client, server = pair
    first, second = client.makefile("rb"), client.makefile("rwb")
    client.close()
    client.close()
    server.sendall(b"still here\n")
    assert first.readline() == b"still here\n"
    first.close()
    assert client.fileno() != -1
    second.write(b"so are we")
    second.close()
    assert client.fileno() == -1
    assert to_end(server) == b"so are we"


def test_the_files_close_before_the_socket(pair: Sealed) -> None:
    client, _ = pair
    client.makefile("rb").close()
    assert client.fileno() != -1
    talk(*pair)
    client.close()
    assert client.fileno() == -1


def test_a_file_that_is_collected_counts_as_closed(pair: Sealed) -> None:
    client, _ = pair
    file = client.makefile("rb", 0)
    client.close()
    del file
    gc.collect()
    assert client.fileno() == -1


def test_a_file_gives_nothing_more_after_a_time_out(pair: Sealed) -> None:
    """As a socket's own: a part of the line may be lost."""
    client, server = pair
    client.settimeout(0.01)
    file = client.makefile("rb")
    server.sendall(b"half a li")
    with pytest.raises(TimeoutError):
        file.readline()
    server.sendall(b"ne\n")
    with pytest.raises(OSError, match="timed out"):
        file.readline()
    client.settimeout(PATIENCE)
    assert exactly(client, 3) == b"ne\n"


def test_a_file_over_a_socket_that_does_not_wait(pair: Sealed) -> None:
    client, server = pair
    client.setblocking(False)
    with client.makefile("rb", 0) as file:
        assert file.read(1) is None
        server.sendall(b"x")
        ready(client)
        assert file.read(1) == b"x"
