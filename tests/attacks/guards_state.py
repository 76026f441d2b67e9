"""The guards of the state: the latch, the locks, what is left of a failure."""

from __future__ import annotations

from tests.attacks.guard import (
    ANYIO,
    CONTEXT,
    ERRORS,
    FRAMING,
    KEYS,
    LAYER,
    MECHANISM,
    SYNC,
    TOKENS,
    TRANSPORT,
    Guard,
)

__all__ = ["GUARDS"]

G = "test_g_state.py::test_g"
T = "test_g_threads.py::test_g"
LOST = "test_g_sends.py::test_g6_traceback_of_a_send_into_a_lost_connection_holds_no_plaintext"
BROKEN = "test_g_sends.py::test_g6_traceback_of_a_send_over_a_broken_layer_holds_no_plaintext"

LOG = '__import__("logging").getLogger("saslwrap").debug("refused")'

not_latched = Guard(CONTEXT, "self.close()", "pass")
keys_kept = Guard(CONTEXT, "self._sealer = self._unsealer = None", "pass")
all_together = Guard(
    CONTEXT,
    "if not lock.acquire(False):",
    "if lock.acquire(False) is None:",
)
writers_together = Guard(
    LAYER,
    "if not self._sending.acquire(False):",
    "if self._sending.acquire(False) is None:",
)
readers_together = Guard(
    LAYER,
    "if not self._reading.acquire(False):",
    "if self._reading.acquire(False) is None:",
)
frames_forgotten = Guard(LAYER, "if not spent:", "if True:")
plaintext_dropped = Guard(LAYER, "if self._offset == len(self._plaintext):", "if True:")

GUARDS: list[tuple[str, Guard]] = [
    (G + "1_write_after_an_error_raises_it[rc4]", not_latched),
    (G + "2_read_after_an_error_raises_the_same_anew[rc4]", not_latched),
    (
        G + "2_read_after_an_error_raises_the_same_anew[rc4]",
        Guard(CONTEXT, "else self._fault.fresh()", "else self._fault"),
    ),
    (
        G + "2_input_after_an_error_is_not_stored[rc4]",
        Guard(LAYER, "if self.context.alive:", "if True:"),
    ),
    (
        G + "2_plaintext_of_a_good_frame_is_still_read_after_an_error[rc4]",
        plaintext_dropped,
    ),
    (
        G + "4_part_of_a_frame_stays_for_the_next_read[rc4]",
        Guard(FRAMING, "return None", "self._buffer.clear()"),
    ),
    (G + "4_rest_of_a_message_stays_for_the_next_read[rc4]", plaintext_dropped),
    (
        G + "4_read_that_found_the_context_busy_loses_nothing[rc4]",
        Guard(LAYER, "self._decoder.release()", "self._decoder.consume()"),
    ),
    (
        G + "4_busy_error_does_not_latch[rc4]",
        Guard(
            ERRORS,
            "class ContextBusyError(UsageError):",
            "class ContextBusyError(SASLError):",
        ),
    ),
    (
        G + "4_sealing_that_stops_between_two_frames_latches[rc4]",
        frames_forgotten,
    ),
    (G + "4_interrupt_between_two_frames_latches", frames_forgotten),
    (
        G + "4_interrupted_seal_or_unseal_latches[rc4-MemoryError]",
        Guard(
            CONTEXT,
            'self.fail(SASLError("an earlier call on this context was',
            'repr(SASLError("an earlier call on this context was',
        ),
    ),
    (G + "4_interrupted_seal_or_unseal_latches[rc4-MemoryError]", not_latched),
    (G + "5_close_says_nothing_to_the_peer[rc4]", keys_kept),
    (G + "5_close_drops_the_keys[rc4]", keys_kept),
    (
        G + "6_traceback_of_a_failure_holds_no_key_and_no_plaintext[rc4]",
        Guard(CONTEXT, "fault = self.fail(error)", "fault = error if self.fail(error) else error"),
    ),
    (
        G + "6_traceback_of_an_interrupt_holds_no_plaintext",
        Guard(CONTEXT, "raise error.with_traceback(None)  # noqa: B904 - it", "raise  # it"),
    ),
    (
        G + "6_traceback_of_a_message_that_is_refused_holds_no_plaintext",
        Guard(CONTEXT, "del message  # neither", "pass  # neither"),
    ),
    (
        G + "6_traceback_of_a_message_that_is_refused_holds_no_plaintext",
        Guard(CONTEXT, "raise error.with_traceback(None)  # noqa: B904 - as", "raise  # as"),
    ),
    (
        G + "6_traceback_of_a_failed_send_holds_no_plaintext[auth-int-first frame]",
        Guard(LAYER, 'data = piece = token = b""', 'piece = token = b""'),
    ),
    (
        G + "6_traceback_of_a_failed_send_holds_no_plaintext[auth-int-second frame]",
        Guard(LAYER, "frames.clear()", "pass"),
    ),
    (
        G + "6_traceback_of_a_send_of_no_buffer_holds_no_plaintext",
        Guard(LAYER, "error.__traceback__ = None", "pass"),
    ),
    (
        G + "6_traceback_of_a_send_of_no_buffer_holds_no_plaintext",
        Guard(LAYER, "del data  # as in", "pass  # as in"),
    ),
    (
        G + "6_traceback_of_a_second_writer_holds_no_plaintext",
        Guard(LAYER, 'data = b""\n            raise Cont', "raise Cont"),
    ),
    (LOST + "[socket-threads]", Guard(SYNC, 'data = batch = b""', "pass")),
    (LOST + "[anyio-asyncio]", Guard(ANYIO, 'item = batch = b""', "pass")),
    (BROKEN + "[socket-threads]", Guard(SYNC, 'data = batch = b""', "pass")),
    (
        BROKEN + "[anyio-asyncio]",
        Guard(ANYIO, 'finally:\n            batch = b""', "finally: pass"),
    ),
    (BROKEN + "[anyio-trio]", Guard(ANYIO, 'item = b""  # no', "pass  # no")),
    (BROKEN + "[streams-asyncio]", Guard(TRANSPORT, 'data = b""  # no', "pass  # no")),
    (
        G + "6_texts_and_reprs_hold_no_key[rc4]",
        Guard(KEYS, "outbound: bytes = field(repr=False)", "outbound: bytes"),
    ),
    (
        G + "6_texts_and_reprs_hold_no_key[rc4]",
        Guard(KEYS, "client_to_server: bytes = field(repr=False)", "client_to_server: bytes"),
    ),
    (
        G + "6_nothing_is_logged[rc4]",
        Guard(
            LAYER,
            "self.context.fail(error)",
            f"self.context.fail(error), {LOG}",
        ),
    ),
    (
        G + "7_data_over_the_maximum_message_is_split[rc4]",
        Guard(LAYER, "if type(data) is bytes and len(data) <= step:", "if True:"),
    ),
    (
        G + "7_data_over_the_maximum_message_is_split[des]",
        Guard(
            TOKENS,
            "// block_size * block_size - MAC_OCTETS - 1",
            "// block_size * block_size - MAC_OCTETS",
        ),
    ),
    (
        G + "7_message_over_the_maximum_spends_no_number[rc4]",
        Guard(CONTEXT, "if len(message) > self.stream_sizes.maximum_message:", "if False:"),
    ),
    (
        G + "8_nothing_with_keys_can_be_pickled_or_copied[rc4]",
        Guard(
            CONTEXT,
            "raise TypeError(\"a security context is one connection's;",
            'return int, ("0",) or TypeError("',
        ),
    ),
    (
        G + "8_nothing_with_keys_can_be_pickled_or_copied[rc4]",
        Guard(
            LAYER,
            "raise TypeError(\"a security layer is one connection's;",
            'return int, ("0",) or TypeError("',
        ),
    ),
    (
        G + "8_nothing_with_keys_can_be_pickled_or_copied[rc4]",
        Guard(
            MECHANISM,
            "raise TypeError(\"a mechanism is one connection's;",
            'return int, ("0",) or TypeError("',
        ),
    ),
    (T + "3_second_sealer_is_refused_at_once[rc4]", all_together),
    (T + "3_second_unsealer_is_refused_at_once[rc4]", all_together),
    (
        T + "3_sealer_and_unsealer_are_at_work_together[rc4]",
        Guard(
            CONTEXT,
            "self._unsealing: Final = threading.Lock()",
            "self._unsealing: Final = self._sealing",
        ),
    ),
    (T + "3_second_writer_is_refused_between_two_frames_too[rc4]", writers_together),
    (T + "3_second_reader_is_refused_before_it_decodes[rc4]", readers_together),
    (T + "3_rivals_that_seal_freely_lose_no_number[3des]", all_together),
    (T + "3_rivals_that_send_freely_mix_no_frames[3des]", writers_together),
    (
        T + "3_million_frames_each_way_by_two_threads_and_rivals_lose_no_number",
        all_together,
    ),
    (
        T + "3_layer_reads_while_it_sends[rc4]",
        Guard(
            LAYER,
            "self._reading: Final = threading.Lock()",
            "self._reading: Final = self._sending",
        ),
    ),
    (
        T + "3_writer_and_reader_of_a_layer_run_freely[rc4]",
        Guard(TOKENS, "DigestUnsealer(integrity.inbound,", "DigestUnsealer(integrity.outbound,"),
    ),
]
