"""No layer, plaintext put back, and the switch from one layer to the next."""

from __future__ import annotations

from typing import Any

import pytest

from saslwrap.errors import FrameTooLargeError, OutOfSequenceError, ProtocolError, UsageError
from saslwrap.layer import ClearLayer, SecurityLayer, next_layer
from tests.layer_reads import FORGED, NO_SIZES, TWO, joined
from tests.support import drain, frames, make_context, make_layer


def test_plaintext_put_back_is_read_first() -> None:
    layer = make_layer()
    layer.receive_data(TWO)
    assert layer.read(4) == b"hell"
    layer.push_back(bytearray(b"ell"))
    assert layer.read() == b"ello"
    layer.push_back(b"again")
    assert [layer.read(), layer.read(), layer.read()] == [b"again", b"world!", b""]


def test_plaintext_put_back_comes_before_the_end() -> None:
    layer = make_layer()
    layer.receive_eof()
    layer.push_back(b"rest")
    assert not layer.at_eof
    assert layer.read() == b"rest"
    assert layer.at_eof


def test_plaintext_put_back_is_readable_before_an_error() -> None:
    layer = make_layer()
    layer.receive_data(frames(b"hello") + FORGED)
    layer.push_back(layer.read())
    assert layer.read() == b"hello"
    with pytest.raises(OutOfSequenceError):
        layer.read()


def test_without_a_layer_data_passes_as_it_is() -> None:
    layer = ClearLayer()
    assert layer.context is None
    assert layer.send_data(b"hello") == [b"hello"]
    assert layer.send_data(b"") == []
    assert layer.read() == b""
    layer.receive_data(b"hello")
    layer.receive_data(bytearray(b" world"))
    assert [layer.read(4), layer.read(), layer.read()] == [b"hell", b"o world", b""]


def test_without_a_layer_the_end_comes_after_all_was_read() -> None:
    layer = ClearLayer()
    assert not layer.at_eof
    layer.receive_data(b"x")
    layer.receive_eof()
    assert not layer.at_eof
    layer.read()
    assert layer.at_eof


def test_without_a_layer_what_was_not_read_can_be_taken_out_or_put_back() -> None:
    layer = ClearLayer()
    assert layer.unread() == b""
    layer.receive_data(b"hello")
    assert layer.read(2) == b"he"
    layer.push_back(b"e")
    assert layer.pending == 4
    assert layer.unread() == b"ello"
    assert layer.read() == b""
    assert layer.pending == 0


@pytest.mark.parametrize("size", NO_SIZES)
def test_without_a_layer_a_read_of_no_size_is_refused(size: Any) -> None:
    layer = ClearLayer()
    layer.receive_data(b"hello")
    with pytest.raises(UsageError, match=f" from 1, not ({size}|{type(size).__name__})$"):
        layer.read(size)
    assert layer.read() == b"hello"


def test_the_repr_of_no_layer_shows_no_data() -> None:
    layer = ClearLayer()
    layer.receive_data(b"secret")
    assert repr(layer) == "<ClearLayer>"


def test_no_layer_has_the_face_of_a_layer() -> None:
    """The guard: a shell can hold either; a call that one lacks would fail only after a login."""
    face = {name for name in dir(SecurityLayer) if not name.startswith("_")}
    assert {name for name in dir(ClearLayer) if not name.startswith("_")} == face


@pytest.mark.parametrize("arrived", range(len(TWO) + 1))
@pytest.mark.parametrize("ended", [True, False])
def test_the_first_layer_takes_what_was_read_past_the_login(arrived: int, ended: bool) -> None:
    """The guard: bytes past the success are ciphertext, in order; none is data, none is lost."""
    clear = ClearLayer()
    clear.receive_data(TWO[:arrived])
    trailing = clear.read(3)
    if ended:
        clear.receive_eof()
    layer = next_layer(clear, make_context(), trailing)
    assert clear.read() == b""
    assert layer.ended == ended
    layer.receive_data(TWO[arrived:])
    assert drain(layer) == b"helloworld!"
    assert layer.at_eof == ended


def test_cleartext_after_the_login_is_refused_by_the_layer() -> None:
    """The guard: what an attacker adds after the success is never given to the application."""
    layer = next_layer(ClearLayer(), make_context(), b"* BYE injected\r\n")
    with pytest.raises(FrameTooLargeError, match="cleartext"):
        layer.read()


@pytest.mark.parametrize("old", [ClearLayer(), make_layer()], ids=["no layer", "layer"])
def test_without_a_context_the_old_layer_stays(old: ClearLayer | SecurityLayer) -> None:
    assert next_layer(old, None, b"more") is old
    assert old.read() == b"more"
    assert old.send_data(b"x")


def test_a_new_layer_replaces_the_old_and_closes_it() -> None:
    """The guard: RFC 4422 3.8. The new keys start at 0, and the old ones are not used again."""
    old = make_layer()
    old.receive_data(frames(b"success") + TWO[:20])
    assert old.read() == b"success"
    new = next_layer(old, make_context(), b"")
    new.receive_data(TWO[20:])
    assert drain(new) == b"helloworld!"
    assert joined(new, b"first") == frames(b"first")
    assert not new.ended
    with pytest.raises(UsageError, match="closed"):
        old.send_data(b"x")


@pytest.mark.parametrize(("size", "trailing"), [(7, b"success"), (3, b"")])
def test_data_in_the_old_layer_after_the_login_is_refused(size: int, trailing: bytes) -> None:
    old = make_layer()
    old.receive_data(frames(b"success"))
    assert old.read(size) == b"success"[:size]
    assert old.pending == 7 - size
    with pytest.raises(ProtocolError, match="data in the old layer"):
        next_layer(old, make_context(), trailing)


def test_a_layer_is_not_replaced_by_itself() -> None:
    layer = make_layer()
    with pytest.raises(UsageError, match="has a user already"):
        next_layer(layer, layer.context, b"")
    assert joined(layer, b"hello") + joined(layer, b"world!") == TWO
