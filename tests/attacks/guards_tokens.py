"""The guards of tokens: MAC, padding, sequence numbers, and the keystream."""

from __future__ import annotations

from tests.attacks.guard import (
    CIPHERS,
    CLIENT,
    FRAMING,
    KEYS,
    LAYER,
    MECHANISM,
    SERVER,
    TOKENS,
    Guard,
)
from tests.attacks.guards_framing import TRUNCATED
from tests.attacks.guards_state import LOG, not_latched

__all__ = ["GUARDS"]

C = "test_c_tamper.py::test_c"
D = "test_d_padding_oracle.py::test_d_"
H = "test_h_keystream.py::test_h_"

AUTHENTIC = "if not authentic & well_formed:"
COMPARE = "authentic = compare_digest("

no_mac = Guard(TOKENS, AUTHENTIC, "if not well_formed:")
nothing_checked = Guard(TOKENS, AUTHENTIC, "if False:")
no_type = Guard(TOKENS, "if token[-6:-4] != TYPE:", "if False:")
number_of_the_peer = Guard(TOKENS, "sequence = self._due()", "sequence = bytes(token[-4:])")
wraps_always = Guard(TOKENS, "wraps = cipher is None", "wraps = True")
padding_first = Guard(
    TOKENS, COMPARE, "if not well_formed:\n            raise IntegrityError\n        " + COMPARE
)

GUARDS: list[tuple[str, Guard]] = [
    (C + "1_no_flipped_bit_of_a_frame_is_accepted[auth-int-to server]", no_mac),
    (C + "1_no_flipped_bit_of_a_frame_is_accepted[des-to client]", no_type),
    (
        C + "1_no_flipped_bit_of_a_frame_is_accepted[rc4-to server]",
        Guard(TOKENS, "token[-4:] != sequence:", "False:"),
    ),
    (
        C + "1_no_flipped_bit_of_a_frame_is_accepted[rc4-to server]",
        Guard(FRAMING, TRUNCATED, "if False:"),
    ),
    (
        C + "1_frame_as_it_was_is_accepted[rc4-to client]",
        Guard(
            KEYS,
            "return DirectionKeys(self.server_to_client,",
            "return DirectionKeys(self.client_to_server,",
        ),
    ),
    (C + "1_no_flipped_bit_of_a_token_is_accepted_in_place[auth-int]", no_mac),
    (
        C + "1_no_flipped_bit_of_a_token_is_accepted_in_place[rc4]",
        Guard(TOKENS, "wipe(body)", "pass"),
    ),
    (C + "2_truncated_mac_with_adjusted_length_is_refused[auth-int-1-to server]", no_mac),
    (C + "2_token_of_another_length_is_refused[rc4-to client]", no_mac),
    (C + "2_truncated_mac_in_whole_blocks_is_refused[des-3-to client]", nothing_checked),
    (
        C + "3_replayed_dropped_or_swapped_frames_are_refused[auth-int-replay-to server]",
        number_of_the_peer,
    ),
    (
        C + "3_replayed_dropped_or_swapped_frames_are_refused[rc4-drop-to client]",
        Guard(TOKENS, "raise OutOfSequenceError", "raise IntegrityError"),
    ),
    (
        C + "4_own_frame_reflected_is_refused[auth-int-to server]",
        Guard(
            KEYS,
            "server-to-client signing key magic constant",
            "client-to-server signing key magic constant",
        ),
    ),
    (
        C + "4_directions_share_no_sealing_key[rc4]",
        Guard(
            KEYS, "to server-to-client sealing key magic", "to client-to-server sealing key magic"
        ),
    ),
    (
        C + "5_frame_of_another_session_of_the_user_is_refused[rc4-to client]",
        Guard(KEYS, "parts = [urp, self.nonce, self.cnonce]", "parts = [urp]"),
    ),
    (
        C + "6_server_takes_no_subsequent_authentication[rc4]",
        Guard(
            SERVER,
            "if self._challenge is None:",
            "if self._challenge is None and message is None:",
        ),
    ),
    (
        C + "6_server_takes_no_subsequent_authentication[rc4]",
        Guard(SERVER, "nonce=check_nonce(self._generate_nonce(),", 'nonce=check_nonce("constant",'),
    ),
    (
        C + "6_client_starts_no_subsequent_authentication",
        Guard(CLIENT, "return None if message is None else", 'return b"" if message is None else'),
    ),
    (
        C + "6_mechanisms_log_in_once[rc4]",
        Guard(MECHANISM, "if self._complete:", "if False:"),
    ),
    (
        C + "6_server_that_repeats_its_nonce_gets_no_keys_again[rc4]",
        Guard(CLIENT, "check_nonce(self._generate_cnonce(),", 'check_nonce("constant",'),
    ),
    (
        C + "6_proof_of_a_former_session_does_not_pass",
        Guard(CLIENT, "not compare_digest(proof,", "False and compare_digest(proof,"),
    ),
    (C + "7_message_type_other_than_1_is_refused[rc4-2]", no_type),
    (
        C + "8_number_that_is_not_due_is_refused_with_its_right_mac[rc4-1]",
        number_of_the_peer,
    ),
    (
        C + "8_numbers_start_anew_after_2_to_the_32_under_integrity",
        Guard(TOKENS, "wraps = cipher is None", "wraps = False"),
    ),
    (C + "8_cipher_seals_no_more_than_2_to_the_32[rc4]", wraps_always),
    (C + "8_cipher_unseals_no_more_than_2_to_the_32[rc4]", wraps_always),
    (C + "9_spliced_frames_are_refused[3des-to client]", no_mac),
    (
        D + "right_padding_is_accepted[copied-des-5]",
        Guard(TOKENS, "length += excess * hit", "pass"),
    ),
    (
        D + "wrong_padding_is_refused_under_any_mac[copied-des-8 but octet 0]",
        Guard(TOKENS, AUTHENTIC, "if not authentic:"),
    ),
    (
        D + "wrong_padding_is_refused_under_any_mac[in place-des-all 9]",
        Guard(TOKENS, "wipe(body)", "pass"),
    ),
    (
        D + "wrong_padding_is_refused_under_any_mac[copied-des-all 9]",
        Guard(TOKENS, "right |= hit", "right = True"),
    ),
    (
        D + "wrong_padding_is_refused_under_any_mac[copied-des-8 but octet 0]",
        Guard(TOKENS, "ended[-2 - excess :], padding)", "ended[-2:], padding[-2:])"),
    ),
    (
        D + "wrong_padding_and_wrong_mac_raise_the_same[copied-des-last octet 0]",
        Guard(LAYER, "self.context.fail(error)", "raise self.context.fail(error)"),
    ),
    (
        D + "wrong_padding_and_wrong_mac_raise_the_same[copied-des-last octet 0]",
        Guard(
            TOKENS,
            AUTHENTIC,
            f'if not well_formed:\n            raise IntegrityError("pad")\n        {AUTHENTIC}',
        ),
    ),
    (
        D + "wrong_padding_and_wrong_mac_call_the_same_primitives[copied-des-last octet 0]",
        Guard(TOKENS, COMPARE, "authentic = well_formed and compare_digest("),
    ),
    (
        D + "wrong_padding_and_wrong_mac_call_the_same_primitives[copied-des-last octet 0]",
        padding_first,
    ),
    (D + "wrong_padding_and_wrong_mac_run_the_same_lines[copied-des-last octet 0]", padding_first),
    (
        D + "wrong_padding_and_wrong_mac_run_the_same_lines[copied-des-last octet 0]",
        Guard(
            TOKENS,
            "for excess, padding in PADDINGS:",
            "for excess, padding in PADDINGS[: tail[-1]]:",
        ),
    ),
    (
        D + "wrong_padding_and_wrong_mac_log_nothing[copied-des-last octet 0]",
        Guard(TOKENS, AUTHENTIC, f"well_formed or {LOG}\n        {AUTHENTIC}"),
    ),
    (
        H + "sealing_advances_the_keystream_by_length_plus_10[rc4]",
        Guard(TOKENS, "(message), self._update(mac), trailer", "(message), mac, trailer"),
    ),
    (
        H + "unsealing_advances_the_keystream_by_length_plus_10[rc4]",
        Guard(
            TOKENS,
            "return message, self._update(mac), True",
            "return message, self._update(bytes(3) + mac)[3:], True",
        ),
    ),
    (
        H + "sealing_in_place_spends_the_same_keystream[rc4]",
        Guard(TOKENS, "self._update_into(message, message)", "message[:] = bytes(len(message))"),
    ),
    (
        H + "unsealing_in_place_spends_the_same_keystream[rc4]",
        Guard(TOKENS, "self._update_into(body, body)", "self._update_into(bytes(len(body)), body)"),
    ),
    (
        H + "no_two_tokens_of_the_same_message_are_alike[rc4]",
        Guard(
            CIPHERS,
            "return self._cipher(key).encryptor()",
            'return type("Anew", (), {"update": '
            "lambda _, data: self._cipher(key).encryptor().update(data)})()",
        ),
    ),
    (
        H + "no_two_tokens_of_the_same_message_are_alike[auth-int]",
        Guard(TOKENS, "mac.update(sequence)", "pass"),
    ),
    (H + "failed_frame_is_not_resynchronised[rc4-number]", not_latched),
    (
        H + "failed_frame_takes_good_frames_behind_it_along[rc4]",
        Guard(LAYER, "self._decoder.discard()", "pass"),
    ),
    (H + "failed_frame_takes_good_frames_behind_it_along[rc4]", not_latched),
]
