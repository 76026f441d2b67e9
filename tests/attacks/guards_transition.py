"""The guards of the switch, over each shell."""

from __future__ import annotations

from tests.attacks.guard import ANYIO, LAYER, SYNC, TRANSPORT, WIRE, Guard

__all__ = ["GUARDS"]

STREAMS = "saslwrap/asyncio/streams.py"
DRIVE = "saslwrap/asyncio/drive.py"
F = "test_f_transition.py::test_f"

TRAILING = "replacement.receive_data(trailing_data)"
RECEIVED = "layer.receive_data(received)"
trailing_in_clear = Guard(LAYER, TRAILING, "replacement.push_back(trailing_data)")
received_in_clear = Guard(TRANSPORT, RECEIVED, "layer.push_back(received)")
SURVIVES = "if exchange.leaves_usable(error):"

GUARDS: list[tuple[str, Guard]] = [
    (
        F + "1_cleartext_between_success_and_first_frame_is_refused[anyio-asyncio]",
        Guard(ANYIO, "self._layer.receive_data(chunk)", "self._layer.push_back(chunk)"),
    ),
    (
        F + "1_cleartext_between_success_and_first_frame_is_refused[protocol-asyncio]",
        Guard(WIRE, "self.layer.receive_data(data)", "self.layer.push_back(data)"),
    ),
    (
        F + "1_cleartext_between_success_and_first_frame_is_refused[socket-threads]",
        Guard(SYNC, "self._layer.receive_data(chunk)", "self._layer.push_back(chunk)"),
    ),
    (F + "2_cleartext_read_together_with_the_success_is_refused[anyio-asyncio]", trailing_in_clear),
    (
        F + "2_cleartext_read_together_with_the_success_is_refused[streams-asyncio]",
        received_in_clear,
    ),
    (
        F + "2_cleartext_before_a_frame_in_the_same_segment_is_refused[protocol-asyncio]",
        received_in_clear,
    ),
    (
        F + "2_cleartext_that_a_stream_reader_read_ahead_is_refused[streams-asyncio]",
        Guard(
            STREAMS,
            "reader.feed_eof()\n        wire.layer.receive_data(",
            "reader.feed_eof()\n        new_reader.feed_data(",
        ),
    ),
    (
        F + "3_frame_pipelined_with_the_last_response_is_unsealed[socket-threads]",
        trailing_in_clear,
    ),
    (
        F + "3_frame_pipelined_with_the_last_response_is_unsealed[streams-asyncio]",
        received_in_clear,
    ),
    (
        F + "3_cleartext_pipelined_with_the_last_response_is_refused[socket-threads]",
        trailing_in_clear,
    ),
    (
        F + "3_cleartext_pipelined_with_the_last_response_is_refused[streams-asyncio]",
        received_in_clear,
    ),
    (F + "4_frames_right_behind_the_success_are_unsealed[anyio-asyncio-1]", trailing_in_clear),
    (F + "4_frames_right_behind_the_success_are_unsealed[streams-asyncio-200]", received_in_clear),
    (F + "4_frame_behind_the_success_may_be_cut_anywhere[socket-threads-5]", trailing_in_clear),
    (F + "4_frame_behind_the_success_may_be_cut_anywhere[protocol-asyncio-5]", received_in_clear),
    (
        F + "5_queue_of_a_stream_writer_goes_out_before_the_login[streams-asyncio]",
        Guard(
            DRIVE,
            "writer.write(data)",
            '__import__("os").write(writer.get_extra_info("socket").fileno(), data)',
        ),
    ),
    (
        F + "5_old_stream_writer_sends_nothing_under_the_layer[streams-asyncio]",
        Guard(STREAMS, "retire(writer, sealed)", "pass"),
    ),
    (
        F + "5_queue_of_a_transport_is_not_overtaken[protocol-asyncio]",
        Guard(TRANSPORT, "if not queue_is_ours and (", "if False and ("),
    ),
    (
        F + "5_login_of_a_stream_does_not_meet_a_sender[anyio-asyncio]",
        Guard(
            ANYIO,
            "_sending, self._receiving:\n            self._check_writable()\n            exch",
            '_login_lock if False else __import__("contextlib").nullcontext():\n            exch',
        ),
    ),
    (
        F + "5_login_of_a_socket_does_not_meet_a_sender[socket-threads]",
        Guard(SYNC, 'with _only_one(self._sending, "sending to"), _only_one(', "with _only_one("),
    ),
    (
        F + "6_rebind_travels_under_the_old_layer_and_the_new_one_starts_at_0"
        "[anyio-asyncio-client]",
        Guard(
            LAYER,
            "replacement.receive_data(layer.unread())",
            "replacement.push_back(layer.unread())",
        ),
    ),
    (
        F + "6_rebind_travels_under_the_old_layer_and_the_new_one_starts_at_0"
        "[streams-asyncio-client]",
        Guard(WIRE, "if self.one_by_one:", "if False:"),
    ),
    (
        F + "6_frame_of_the_old_layer_behind_the_success_is_refused[socket-threads]",
        Guard(
            LAYER,
            "layer.context.close()\n    replacement.receive_data(trailing_data)",
            "return layer\n    replacement.receive_data(trailing_data)",
        ),
    ),
    (
        F + "6_failed_rebind_keeps_the_old_layer_and_its_counters[anyio-asyncio]",
        Guard(ANYIO, SURVIVES, "if False:"),
    ),
    (
        F + "6_failed_rebind_keeps_the_old_layer_and_its_counters[streams-asyncio]",
        Guard(STREAMS, SURVIVES, "if False:"),
    ),
    (
        F + "6_failed_rebind_keeps_the_old_layer_and_its_counters[socket-threads]",
        Guard(SYNC, SURVIVES, "if False:"),
    ),
    (
        F + "6_rebind_without_a_layer_keeps_the_old_layer_and_its_counters[socket-threads]",
        Guard(LAYER, "if context is None:", "if False:"),
    ),
]
