"""The guards of anyio's streams."""

from __future__ import annotations

from tests.attacks.guard import ANYIO, Guard

__all__ = ["GUARDS"]

S = "test_g_stream.py::test_g"


GUARDS: list[tuple[str, Guard]] = [
    (
        S + "1_stream_refuses_to_send_after_an_error[asyncio-rc4]",
        Guard(
            ANYIO,
            "frames = self._layer.send_data(batch)",
            "frames = [batch] if self._layer.context.failed else self._layer.send_data(batch)",
        ),
    ),
    (
        S + "2_stream_closes_its_transport_on_an_error[asyncio-rc4]",
        Guard(ANYIO, "await close_at_once(self._transport)", "pass"),
    ),
    (
        S + "2_stream_cut_inside_a_frame_is_no_end[asyncio-rc4]",
        Guard(ANYIO, "self._layer.receive_eof()", "raise"),
    ),
    (
        S + "3_second_sending_task_is_refused[asyncio-rc4]",
        Guard(
            ANYIO,
            'self._sending: Final = ResourceGuard("sending to")',
            'self._sending: Any = __import__("contextlib").nullcontext()',
        ),
    ),
    (
        S + "3_second_receiving_task_is_refused[asyncio-rc4]",
        Guard(
            ANYIO,
            'self._receiving: Final = ResourceGuard("receiving from")',
            'self._receiving: Any = __import__("contextlib").nullcontext()',
        ),
    ),
    (
        S + "3_sender_and_receiver_are_at_work_together[asyncio-rc4]",
        Guard(
            ANYIO,
            'self._receiving: Final = ResourceGuard("receiving from")',
            "self._receiving: Final = self._sending",
        ),
    ),
    (
        S + "4_send_cancelled_at_any_point_breaks_writing_and_not_reading[asyncio-rc4]",
        Guard(ANYIO, "self._half_sent = self._layer.context is not None", "pass"),
    ),
    (
        S + "4_send_cancelled_before_it_began_breaks_nothing[asyncio-rc4]",
        Guard(
            ANYIO,
            "await checkpoint_if_cancelled()\n                await self._send(item)",
            "await self._send(item)",
        ),
    ),
    (
        S + "4_receive_cancelled_at_any_point_loses_nothing[asyncio-rc4-True]",
        Guard(
            ANYIO,
            "self._layer.receive_data(chunk)",
            "await checkpoint()\n                self._layer.receive_data(chunk)",
        ),
    ),
    (
        S + "4_receive_cancelled_with_plaintext_at_hand_loses_nothing[asyncio-rc4]",
        Guard(ANYIO, "await cancel_shielded_checkpoint()", "await checkpoint()"),
    ),
    (
        S + "5_stream_closes_without_a_word[asyncio-rc4]",
        Guard(ANYIO, "self._layer.context.close()", "pass"),
    ),
]
