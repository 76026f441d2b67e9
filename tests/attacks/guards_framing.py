"""The guards of frames: their lengths, their ends, and how they arrive."""

from __future__ import annotations

from tests.attacks.guard import CONTEXT, EXCHANGE, FRAMING, LAYER, TOKENS, Guard

__all__ = ["GUARDS"]

A = "test_a_framing_eof.py::test_a"
B = "test_b_lengths.py::test_b"

LIMIT = "if length > self.limit:"
TRUNCATED = "if self._eof and arrived:"
HEADER = "if arrived >= LENGTH_OCTETS:"
WHOLE = "if arrived >= LENGTH_OCTETS + length:"
STORE = "self._buffer += data if type(data) is bytes else octets(data)"
CONSUMED = "del self._buffer[: self._end]"
LENGTH = 'length = int.from_bytes(self._buffer[:LENGTH_OCTETS], "big")'

no_limit = Guard(FRAMING, LIMIT, "if False:")
header_unseen = Guard(FRAMING, HEADER, "if arrived:")

GUARDS: list[tuple[str, Guard]] = [
    (
        A + "1_end_at_a_frames_border_is_a_clean_end[rc4]",
        Guard(FRAMING, TRUNCATED, "if self._eof:"),
    ),
    (
        A + "1_end_is_not_clean_before_everything_is_read[rc4]",
        Guard(FRAMING, "return self._eof and not self._buffer", "return self._eof"),
    ),
    (
        A + "2_end_inside_the_length_is_truncation[rc4-2]",
        Guard(FRAMING, TRUNCATED, "if self._eof and arrived > LENGTH_OCTETS:"),
    ),
    (
        A + "3_end_inside_the_token_is_truncation_without_plaintext[rc4]",
        Guard(FRAMING, TRUNCATED, "if self._eof and arrived < LENGTH_OCTETS:"),
    ),
    (
        A + "3_end_inside_the_token_is_truncation_without_plaintext[rc4]",
        Guard(FRAMING, WHOLE, "if self._eof or arrived >= LENGTH_OCTETS + length:"),
    ),
    (A + "4_any_split_of_two_frames_gives_the_same[rc4]", header_unseen),
    (
        A + "4_any_split_of_two_frames_gives_the_same[rc4]",
        Guard(FRAMING, CONSUMED, "self._buffer.clear()"),
    ),
    (A + "4_octet_by_octet_gives_the_same[rc4]", header_unseen),
    (
        A + "4_octet_by_octet_gives_the_same[rc4]",
        Guard(FRAMING, WHOLE, "if arrived >= length:"),
    ),
    (
        A + "5_many_frames_in_one_read_all_come_in_order[rc4]",
        Guard(FRAMING, "self._end = LENGTH_OCTETS + length", "self._end = arrived"),
    ),
    (
        A + "5_many_frames_in_one_read_cost_linear_work",
        Guard(FRAMING, CONSUMED, "self._buffer = self._buffer[self._end :]"),
    ),
    (
        A + "6_frame_behind_the_success_line_goes_to_the_layer[rc4]",
        Guard(EXCHANGE, "del self._buffer[:length]", "self._buffer.clear()"),
    ),
    (A + "6_cleartext_behind_the_success_line_is_refused[rc4]", no_limit),
    (B + "1_length_0_is_an_error_at_once[rc4]", Guard(FRAMING, "if not length:", "if False:")),
    (
        B + "2_token_shorter_than_any_runs_no_primitive[rc4-10]",
        Guard(TOKENS, "if len(token) < self.shortest or (", "if ("),
    ),
    (
        B + "3_token_of_16_octets_is_an_empty_message[rc4]",
        Guard(TOKENS, "SIGNATURE_OCTETS if block_size == 1", "17 if block_size == 1"),
    ),
    (
        B + "3_token_of_22_octets_is_an_empty_message[des]",
        Guard(TOKENS, "else 2 * block_size + TRAILER_OCTETS", "else 3 * block_size"),
    ),
    (
        B + "4_token_of_no_whole_blocks_runs_no_primitive[des-23]",
        Guard(TOKENS, "(len(token) - TRAILER_OCTETS) %", "0 %"),
    ),
    (
        B + "5_token_of_just_maxbuf_is_accepted[rc4]",
        Guard(FRAMING, LIMIT, "if length >= self.limit:"),
    ),
    (
        B + "5_token_of_just_maxbuf_is_accepted[rc4]",
        Guard(CONTEXT, "if len(token) > self.local_maxbuf:", "if len(token) >= self.local_maxbuf:"),
    ),
    (
        B + "5_length_over_maxbuf_is_refused_at_its_fourth_octet[rc4]",
        Guard(FRAMING, LIMIT, "if length > self.limit + 1:"),
    ),
    (
        B + "6_length_that_wraps_or_turns_negative_is_refused[rc4-2147483648]",
        Guard(FRAMING, LENGTH, LENGTH[:-1] + ", signed=True)"),
    ),
    (
        B + "7_announced_16_mib_then_silence_allocates_nothing[rc4]",
        Guard(
            FRAMING,
            STORE,
            STORE + '; self.room = bytearray(int.from_bytes(self._buffer[:4], "big"))',
        ),
    ),
    (
        B + "7_announced_over_maxbuf_allocates_nothing[16777216]",
        Guard(FRAMING, LIMIT, "if bytearray(length) and length > self.limit:"),
    ),
    (
        B + "8_dribbled_16_mib_take_memory_for_what_arrived[rc4]",
        Guard(FRAMING, STORE, STORE + '; self.__dict__.setdefault("parts", []).append(data)'),
    ),
    (
        B + "8_dribbled_16_mib_cost_linear_work",
        Guard(FRAMING, STORE, "self._buffer = self._buffer + octets(data)"),
    ),
    (
        B + "8_dribbled_16_mib_cost_linear_work",
        Guard(FRAMING, LENGTH, 'length = int.from_bytes(self._buffer[:][:LENGTH_OCTETS], "big")'),
    ),
    (
        B + "9_cleartext_gets_an_error_that_says_so[rc4]",
        Guard(FRAMING, "_cleartext_hint(self._buffer)", '""'),
    ),
    (
        B + "9_ldap_in_clear_gets_an_error_that_says_so[rc4-30840000]",
        Guard(FRAMING, "if head[0] == 0x30:", "if False:"),
    ),
    (
        B + "10_flood_of_empty_frames_ends_in_an_error[rc4]",
        Guard(LAYER, "if self._empty_frames > MAX_EMPTY_FRAMES:", "if False:"),
    ),
    (
        B + "10_flood_of_empty_frames_is_counted_over_reads[rc4]",
        Guard(LAYER, "self._empty_frames += 1", "self._empty_frames = 1"),
    ),
    (
        B + "10_some_empty_frames_do_no_harm[rc4]",
        Guard(
            LAYER, "self._empty_frames = 0\n                    return message", "return message"
        ),
    ),
]
