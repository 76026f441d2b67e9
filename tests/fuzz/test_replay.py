"""Every file of the corpus and every seed, attacking its target: without the fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from saslwrap.errors import ProtocolError, SASLError, UsageError
from tests.fuzz.minimise import minimise, worth_keeping
from tests.fuzz.reader import Reader, cut
from tests.fuzz.sieve import without_literals
from tests.fuzz.target import CORPUS, Target
from tests.fuzz.targets import TARGETS

each_target = pytest.mark.parametrize("name", TARGETS)


@pytest.fixture
def target(name: str) -> Target:
    """The target of that name, where it can be attacked."""
    TARGETS[name].require()
    return TARGETS[name]


@each_target
def test_the_corpus_does_no_harm(target: Target) -> None:
    """And it reaches each error that is allowed: none is there in vain."""
    inputs = [path.read_bytes() for path in target.corpus()]
    outcomes = {type(target.run(data)) for data in inputs}
    assert outcomes - {type(None)} == set(target.allowed)


@each_target
def test_the_seeds_do_no_harm(target: Target) -> None:
    for data in target.seeds():
        assert len(data) <= target.longest
        target.run(data)


@each_target
def test_the_corpus_is_small(name: str) -> None:
    sizes = [path.stat().st_size for path in TARGETS[name].corpus()]
    assert 0 < len(sizes) <= 400
    assert max(sizes) <= TARGETS[name].longest


def test_each_folder_of_the_corpus_has_its_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@each_target
def test_each_allowed_error_has_its_reason(name: str) -> None:
    assert all(TARGETS[name].allowed.values())
    assert UsageError not in TARGETS[name].allowed
    assert SASLError not in TARGETS[name].allowed


# the tools themselves


def raising(error: Exception) -> Target:
    def attack(data: bytes) -> None:
        if data:
            raise error

    return Target("toy", attack, {ProtocolError: "for a test"}, list)


class OtherError(ProtocolError):
    """Not listed, though what it derives from is."""


def test_what_is_listed_is_allowed() -> None:
    error = ProtocolError("no")
    assert raising(error).run(b"x") is error
    assert raising(error).run(b"") is None


@pytest.mark.parametrize(
    "error", [OtherError("no"), SASLError("no"), ValueError("no"), AssertionError("no")]
)
def test_what_is_not_listed_is_a_finding(error: Exception) -> None:
    with pytest.raises(type(error)):
        raising(error).run(b"x")


@pytest.mark.parametrize("text", ["", "two\nlines", "x" * 1001, "it was s3cret-Pa55"])
def test_a_text_that_is_not_fit_to_be_shown_is_a_finding(text: str) -> None:
    with pytest.raises(AssertionError, match="text"):
        raising(ProtocolError(text)).run(b"x")


def test_the_reader_goes_on_past_the_end() -> None:
    reader = Reader(b"\1\2\3")
    assert (reader.number(2), reader.number(4), reader.number()) == (0x102, 0x3000000, 0)
    assert (reader.take(2), reader.octets(), reader.rest(), reader.more) == (b"", b"", b"", False)
    assert (reader.flag(), reader.one_of("ab"), reader.sizes()) == (False, "a", [0, 0, 0])


def test_the_reader_edits() -> None:
    assert Reader(b"\0").edited(b"genuine") == b"genuine"
    assert Reader(b"\1\0\2\1x\3").edited(b"genuine") == b"gexne"
    assert Reader(b"\2\0\0\1a\0\0\7\1z\0").edited(b"genuine") == b"agenuinze"[:7] + b"ze"


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [([0], [b"stream"]), ([1, 2, 0], [b"s", b"tr", b"eam"]), ([4], [b"stre", b"am"])],
)
def test_a_stream_is_cut(sizes: list[int], pieces: list[bytes]) -> None:
    assert list(cut(b"stream", sizes)) == pieces
    assert list(cut(b"", sizes)) == []


def test_literals_are_taken_out() -> None:
    said = b'OK (TAG {4}\r\n"{1}) "{3}\\""\r\n{0+}\r\n\r\n'
    assert without_literals(said) == b'OK (TAG "") "{3}\\""\r\n""\r\n'
    with pytest.raises(AssertionError, match="cut short"):
        without_literals(b"{4}\r\nabc")


def test_what_does_nothing_new_is_not_kept() -> None:
    target = TARGETS["frame-decoder"]
    none, one, two = (bytes([1, 0, 0, 0, 0, 0]) + n * b"\0\0\0\1x" for n in range(3))
    assert worth_keeping(target, [two, one, none, one]) == [none, one]


def test_regressions_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.target.CORPUS", tmp_path)
    target = TARGETS["frame-decoder"]
    for name in ("regression-of-something", "0123456789abcdef"):
        target.folder.mkdir(exist_ok=True)
        (target.folder / name).write_bytes(b"")
    assert minimise(target, [b"\1\0"]) == 1
    assert len(target.corpus()) == 2
    assert (target.folder / "regression-of-something").exists()
