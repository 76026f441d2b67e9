"""The guards of the package, what takes each out, and the attack that then succeeds.

A row is an attack test, by its id, and a guard: a file, a snippet of its source (it must stand
there exactly once), and what to put in its place. `test_guards.py` makes each replacement in a copy
of the package, and sees the test fail there. A test's docstring names its guards in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GUARDS", "Guard"]

ANYIO = "saslwrap/anyio/stream.py"
CIPHERS = "saslwrap/mechanisms/digest_md5/ciphers.py"
CLIENT = "saslwrap/mechanisms/digest_md5/client.py"
CONTEXT = "saslwrap/context.py"
DIRECTIVES = "saslwrap/mechanisms/digest_md5/directives.py"
ERRORS = "saslwrap/errors.py"
EXCHANGE = "saslwrap/exchange.py"
FRAMING = "saslwrap/framing.py"
KEYS = "saslwrap/mechanisms/digest_md5/keys.py"
LAYER = "saslwrap/layer.py"
LDAP = "saslwrap/protocols/ldap.py"
MECHANISM = "saslwrap/mechanism.py"
MESSAGES = "saslwrap/mechanisms/digest_md5/messages.py"
NAMES = "saslwrap/mechanisms/names.py"
NEGOTIATION = "saslwrap/mechanisms/digest_md5/negotiation.py"
PROPERTIES = "saslwrap/properties.py"
SERVER = "saslwrap/mechanisms/digest_md5/server.py"
TOKENS = "saslwrap/mechanisms/digest_md5/context.py"


@dataclass(frozen=True)
class Guard:
    """Some source that stops an attack, and the source without it."""

    file: str
    source: str
    without: str


# Framing

LIMIT = "if length > self.limit:"
TRUNCATED = "if self._eof and arrived:"
HEADER = "if arrived >= LENGTH_OCTETS:"
WHOLE = "if arrived >= LENGTH_OCTETS + length:"
STORE = "self._buffer += data if type(data) is bytes else octets(data)"
CONSUMED = "del self._buffer[: self._end]"
LENGTH = 'length = int.from_bytes(self._buffer[:LENGTH_OCTETS], "big")'

no_limit = Guard(FRAMING, LIMIT, "if False:")
header_unseen = Guard(FRAMING, HEADER, "if arrived:")

# Tokens

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

# The latch, the locks

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
LOG = '__import__("logging").getLogger("saslwrap").debug("refused")'

# The login

CHOSEN = "if (qop, response.cipher) =="
TWICE = "if len(values) > 1:"
FITS = "maximum_message(maxbuf, block_size)"
PROVEN = "proof is None or not compare_digest("
SECRET = "return secrets.token_urlsafe(24)"

no_minimum = Guard(NEGOTIATION, "least <= protection.ssf", "0 <= protection.ssf")
choice_unchecked = Guard(
    SERVER,
    "for protection in self._offered:",
    "for protection in offer(SecurityProperties(min_ssf=0, ciphers="
    '("rc4", "3des", "rc4-56", "des", "rc4-40")), 0):',
)
any_realm = Guard(SERVER, "realm in self._realms or not self._realms", "True")
repeats_accepted = Guard(DIRECTIVES, TWICE, "if False:")
authzid_unhashed = Guard(KEYS, "parts.append(self.authzid)", "pass")
nothing_proven = Guard(CLIENT, PROVEN, "proof is None or False and compare_digest(")
limit_reached = Guard(DIRECTIVES, "if len(message) >= limit:", "if len(message) > limit:")
fits_always = Guard(NEGOTIATION, FITS, "1")
maxbuf_unchecked = Guard(NEGOTIATION, "if chosen[0].qop is not QOP.AUTH:", "if False:")
predictable = '"%032x" % __import__("random").getrandbits(128)'
empty_accepted = Guard(MESSAGES, "if not (value :=", "if None is (value :=")


A = "test_a_framing_eof.py::test_a"
B = "test_b_lengths.py::test_b"
C = "test_c_tamper.py::test_c"
D = "test_d_padding_oracle.py::test_d_"
E = "test_e_negotiation.py::test_e"
G = "test_g_state.py::test_g"
T = "test_g_threads.py::test_g"
S = "test_g_stream.py::test_g"
H = "test_h_keystream.py::test_h_"

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
    (E + "1_offer_below_the_minimum_is_refused_before_a_response[int]", no_minimum),
    (
        E + "1_offer_below_the_minimum_is_refused_before_a_response[layer required]",
        Guard(PROPERTIES, "return max(self.min_ssf, 1), self.max_ssf", "return 0, self.max_ssf"),
    ),
    (E + "1_nothing_is_sent_to_a_server_that_offers_too_little[auth]", no_minimum),
    (
        E + "1_nothing_is_sent_to_a_server_that_offers_too_little[auth]",
        Guard(LDAP, "yield Send(self._abort_message())", "pass"),
    ),
    (E + "1_client_that_takes_less_than_the_minimum_is_refused[auth]", choice_unchecked),
    (E + "1_client_that_takes_less_than_the_minimum_is_refused[auth]", no_minimum),
    (E + "1_server_offers_nothing_below_its_minimum[default]", no_minimum),
    (E + "2_offer_stripped_to_weak_ciphers_is_refused[auth-conf-rc4-40]", no_minimum),
    (E + "2_weak_cipher_is_refused_by_the_server[rc4-40]", choice_unchecked),
    (E + "2_weak_cipher_is_refused_by_the_server[rc4-40]", no_minimum),
    (
        E + "2_cipher_that_is_not_named_is_not_used[client-rc4-40]",
        Guard(
            NEGOTIATION,
            "CIPHERS[name]) for name in ciphers]",
            "CIPHERS[name]) for name in CIPHERS]",
        ),
    ),
    (E + "2_man_in_the_middle_gets_nobody_below_his_minimum[both]", no_minimum),
    (E + "2_man_in_the_middle_gets_nobody_below_his_minimum[server]", choice_unchecked),
    (E + "3_choice_that_was_not_offered_is_refused[auth]", choice_unchecked),
    (
        E + "3_choice_that_was_not_offered_is_refused[des]",
        Guard(SERVER, CHOSEN, f"if qop == protection.qop or {CHOSEN[3:]}"),
    ),
    (
        E + "3_list_is_no_choice[qops]",
        Guard(SERVER, CHOSEN, f"if protection.qop in qop and not cipher or {CHOSEN[3:]}"),
    ),
    (
        E + "3_list_is_no_choice[ciphers]",
        Guard(SERVER, CHOSEN, f'if (cipher or "no") in (response.cipher or "") or {CHOSEN[3:]}'),
    ),
    (E + "3_two_choices_are_refused[auth-conf-ciphers]", repeats_accepted),
    (
        E + "3_cipher_without_confidentiality_is_refused[rc4-auth]",
        Guard(SERVER, "response.cipher is not None and qop !=", "None is not None and qop !="),
    ),
    (E + "3_realm_that_was_not_offered_is_refused[evil.example]", any_realm),
    (
        E + "3_algorithm_other_than_md5_sess_is_refused[md5]",
        Guard(MESSAGES, '!= "md5-sess":', '== "md4-sess":'),
    ),
    (
        E + "3_client_chooses_one_of_what_was_offered",
        Guard(NEGOTIATION, "in wanted if protection in offered]", "in wanted if offered]"),
    ),
    (
        E + "4_rewritten_choice_breaks_the_clients_proof[conf to int]",
        Guard(KEYS, "NONCE_COUNT, self.cnonce, self.qop, a2", "NONCE_COUNT, self.cnonce, a2"),
    ),
    (E + "4_rewritten_choice_breaks_the_clients_proof[authzid]", authzid_unhashed),
    (
        E + "4_rewritten_choice_breaks_the_clients_proof[digest-uri]",
        Guard(KEYS, "a2 = _hex(purpose + self.digest_uri + zeros)", "a2 = _hex(purpose + zeros)"),
    ),
    (
        E + "4_rewritten_choice_breaks_the_clients_proof[case]",
        Guard(SERVER, "qop=response.qop or", 'qop=(response.qop or b"").lower() or'),
    ),
    (E + "4_rewritten_authzid_breaks_the_clients_proof[u:bob]", authzid_unhashed),
    (E + "4_proof_for_a_rewritten_choice_is_refused[auth]", nothing_proven),
    (
        E + "4_rewritten_cipher_fails_at_the_first_frame[rc4-rc4-40-server]",
        Guard(KEYS, "root = session_key[:key_octets]", "root = session_key"),
    ),
    (
        E + "4_rewritten_cipher_fails_at_the_first_frame[3des-des-client]",
        Guard(CIPHERS, "first, last = key[:7],", "first, last = key[:7], key[:7] or"),
    ),
    (E + "4_cipher_rewritten_to_one_below_the_minimum_is_refused[rc4-40]", choice_unchecked),
    (
        E + "5_maxbuf_out_of_range_is_refused[client-conf-2^24]",
        Guard(NEGOTIATION, "if not MIN_MAXBUF <= maxbuf", "if not MIN_MAXBUF"),
    ),
    (E + "5_maxbuf_out_of_range_is_refused[client-conf-2^24]", maxbuf_unchecked),
    (
        E + "5_maxbuf_out_of_range_is_refused[server-int-400 digits]",
        Guard(SERVER, "protection.fits(check_maxbuf(peer_maxbuf))", "protection.fits(peer_maxbuf)"),
    ),
    (
        E + "5_maxbuf_that_is_no_number_is_refused[server-conf--1]",
        Guard(MESSAGES, "if not _DIGITS.fullmatch(", "if not ("),
    ),
    (
        E + "5_maxbuf_out_of_range_does_no_harm_without_a_layer[client-2^24]",
        Guard(NEGOTIATION, "if chosen[0].qop is not QOP.AUTH:", "if True:"),
    ),
    (
        E + "5_maxbuf_out_of_range_does_no_harm_without_a_layer[server-2^24]",
        Guard(SERVER, "if protection.qop is not QOP.AUTH and not", "if not"),
    ),
    (
        E + "5_hundreds_of_digits_never_become_a_number[client-nines]",
        Guard(MESSAGES, "if len(significant) <= 8 else", "if len(significant) <= 4300 else"),
    ),
    (
        E + "5_hundreds_of_digits_never_become_a_number[server-zeros and 65536]",
        Guard(MESSAGES, '.lstrip(b"0")', ""),
    ),
    (E + "5_maxbuf_too_small_for_a_block_is_refused[client-3des-21]", fits_always),
    (E + "5_maxbuf_too_small_for_a_block_is_refused[server-3des-21]", fits_always),
    (
        E + "5_maxbuf_in_range_bounds_what_is_sent[client-rc4-17-1]",
        Guard(CLIENT, "peer_maxbuf=challenge.maxbuf,", "peer_maxbuf=65536,"),
    ),
    (
        E + "5_maxbuf_in_range_bounds_what_is_sent[server-3des-22-5]",
        Guard(SERVER, "peer_maxbuf=peer_maxbuf,", "peer_maxbuf=65536,"),
    ),
    (E + "5_rewritten_maxbuf_denies_service_at_most[rc4-1008-server]", no_limit),
    (E + "5_rewritten_maxbuf_denies_service_at_most[3des-17-client]", fits_always),
    (
        E + "6_message_just_under_the_limit_is_read[client-2048]",
        Guard(DIRECTIVES, "if len(message) >= limit:", "if len(message) >= limit - 1:"),
    ),
    (
        E + "6_message_just_under_the_limit_is_read[server-4096]",
        Guard(MESSAGES, "RESPONSE_LIMIT = 4096", "RESPONSE_LIMIT = 2048"),
    ),
    (E + "6_message_at_the_limit_is_refused_unread[server-4096-0]", limit_reached),
    (
        E + "6_message_at_the_limit_is_refused_unread[client-2048-0]",
        Guard(MESSAGES, "CHALLENGE_LIMIT = 2048", "CHALLENGE_LIMIT = 4096"),
    ),
    (E + "6_proof_has_the_limit_of_the_challenge[2048-False]", limit_reached),
    (
        E + "6_challenge_that_makes_our_response_too_long_is_not_answered",
        Guard(CLIENT, "if len(response) >= RESPONSE_LIMIT:", "if False:"),
    ),
    (E + "7_directive_that_stands_twice_is_refused[client-nonce-another]", repeats_accepted),
    (
        E + "7_directive_that_stands_twice_is_refused[server-authzid-in capitals]",
        Guard(DIRECTIVES, '.decode("latin-1").lower()', '.decode("latin-1")'),
    ),
    (
        E + "7_directive_that_stands_twice_is_refused[client-stale-another]",
        Guard(MESSAGES, 'directives.one("stale")', "pass"),
    ),
    (
        E + "7_directive_that_stands_twice_is_refused[server-username-another]",
        Guard(MESSAGES, '_filled(directives, "username")', "pass"),
    ),
    (
        E + "7_directive_that_stands_twice_is_refused[server-realm-the same]",
        Guard(MESSAGES, 'realm=directives.one("realm"),', 'realm=directives.all("realm")[0],'),
    ),
    (E + "7_proof_that_stands_twice_is_refused", repeats_accepted),
    (
        E + "8_nonces_of_the_server_are_unique_and_unpredictable",
        Guard(SERVER, SECRET, f"return {predictable}"),
    ),
    (
        E + "8_nonces_of_the_server_are_unique_and_unpredictable",
        Guard(SERVER, SECRET, "return secrets.token_urlsafe(15)"),
    ),
    (
        E + "8_recorded_response_does_not_pass_again",
        Guard(SERVER, "nonce=check_nonce(self._generate_nonce(),", 'nonce=check_nonce("constant",'),
    ),
    (
        E + "8_server_that_repeats_its_nonce_gets_another_login",
        Guard(CLIENT, "check_nonce(self._generate_cnonce(),", 'check_nonce("constant",'),
    ),
    (E + "9_cnonces_are_unique_and_unpredictable", Guard(CLIENT, SECRET, f"return {predictable}")),
    (
        E + "9_cnonces_are_unique_and_unpredictable",
        Guard(CLIENT, SECRET, "return secrets.token_urlsafe(15)"),
    ),
    (
        E + "9_own_cnonce_reflected_as_the_servers_nonce_is_refused",
        Guard(CLIENT, "if compare_digest(parameters.nonce,", "if False and (parameters.nonce,"),
    ),
    (
        E + "9_own_nonce_reflected_as_the_clients_cnonce_is_refused",
        Guard(SERVER, "and not compare_digest(response.cnonce,", "and (response.cnonce,"),
    ),
    (
        E + "9_response_that_was_made_for_another_service_is_refused[ldap/other]",
        Guard(SERVER, "and self._is_us(response.digest_uri.lower())", ""),
    ),
    (
        E + "9_client_answers_one_challenge[again]",
        Guard(
            CLIENT,
            "if self._expected_rspauth is not None:",
            'if self._expected_rspauth is not None and b"rspauth" in (message or b""):',
        ),
    ),
    (E + "10_server_that_does_not_prove_itself_is_refused[wrong]", nothing_proven),
    (
        E + "10_server_that_does_not_prove_itself_is_refused[right and more]",
        Guard(MESSAGES, "if len(directives) == 1 else None", ""),
    ),
    (
        E + "10_server_that_does_not_prove_itself_is_refused[the client's]",
        Guard(
            KEYS,
            'return self._value(session_key, b":")',
            'return self._value(session_key, b"AUTHENTICATE" + b":")',
        ),
    ),
    (
        E + "10_right_proof_does_not_mend_a_wrong_one[wrong]",
        Guard(MECHANISM, "if self._fault is not None:", "if False:"),
    ),
    (
        E + "10_client_that_does_not_prove_itself_is_refused[wrong]",
        Guard(
            SERVER,
            "if compare_digest(parameters.response(",
            "if True or compare_digest(parameters.response(",
        ),
    ),
    (
        E + "10_client_that_does_not_prove_itself_is_refused[the server's]",
        Guard(
            KEYS,
            'return self._value(session_key, b"AUTHENTICATE:")',
            'return self._value(session_key, b":")',
        ),
    ),
    (
        E + "10_client_that_does_not_prove_itself_is_refused[upper case]",
        Guard(
            MESSAGES,
            '_HEX_32 = re.compile(rb"[0-9a-f]{32}")',
            '_HEX_32 = re.compile(rb"[0-9a-fA-F]{32}")',
        ),
    ),
    (
        E + "10_unknown_user_has_no_password_that_passes",
        Guard(SERVER, "if not (known and session_key):", "if not session_key:"),
    ),
    (
        E + "11_success_without_a_proof_is_refused",
        Guard(CLIENT, PROVEN, "proof is not None and not compare_digest("),
    ),
    (
        E + "11_success_without_a_proof_is_refused_over_ldap[layer-without]",
        Guard(EXCHANGE, "if self._mechanism is None or not self._mechanism.complete:", "if False:"),
    ),
    (E + "11_success_without_a_proof_is_refused_over_ldap[no layer-wrong]", nothing_proven),
    (
        E + "11_client_that_skips_its_proof_is_refused[nothing]",
        Guard(SERVER, "if message is None:", "if False:"),
    ),
    (
        E + "12_nonce_that_is_not_the_servers_is_refused[other-ours hashed]",
        Guard(SERVER, "compare_digest(response.nonce, nonce)", "True"),
    ),
    (
        E + "12_nonce_count_other_than_1_is_refused[00000002-1 hashed]",
        Guard(SERVER, "response.nonce_count == NONCE_COUNT", "True"),
    ),
    (
        E + "12_nonce_count_of_another_form_is_refused[1]",
        Guard(MESSAGES, "nonce_count=_matching(", 'nonce_count=b"00000001" or _matching('),
    ),
    (E + "12_proof_for_another_nonce_or_count_is_refused[nonce]", nothing_proven),
    (E + "13_empty_name_is_refused_by_the_server[username]", empty_accepted),
    (E + "13_empty_name_is_refused_by_the_server[authzid]", empty_accepted),
    (E + "13_empty_realm_is_no_realm_of_ours", any_realm),
    (
        E + "13_control_character_in_a_name_is_refused_by_the_server[NUL-authzid]",
        Guard(
            DIRECTIVES,
            r"""[^"\\\x00-\x08\x0a-\x1f\x7f]""",
            r"""[^"\\\x01-\x08\x0a-\x1f\x7f]""",
        ),
    ),
    (
        E + "13_authzid_that_is_not_utf_8_is_refused",
        Guard(
            SERVER,
            'return response.authzid.decode("utf-8")',
            'return response.authzid.decode("latin-1")',
        ),
    ),
    (E + "13_empty_nonce_or_nul_is_refused_by_the_client[nonce]", empty_accepted),
    (
        E + "13_empty_names_and_nul_are_never_sent[authzid]",
        Guard(NAMES, "if not value and not may_be_empty:", "if False:"),
    ),
    (
        E + "13_empty_names_and_nul_are_never_sent[NUL]",
        Guard(NAMES, "if _CONTROL.search(value):", "if False:"),
    ),
    (
        E + "14_name_does_not_get_out_of_its_quotes[authzid]",
        Guard(DIRECTIVES, r'_NEEDS_ESCAPE.sub(rb"\\\1", value)', "value"),
    ),
    (
        E + "14_what_is_hashed_is_unescaped[server-quote]",
        Guard(DIRECTIVES, r'_NEEDLESSLY_ESCAPED.sub(rb"\1", inner)', "inner"),
    ),
    (
        E + "14_what_is_hashed_is_unescaped[client-quote]",
        Guard(DIRECTIVES, r'Directive(_ESCAPED.sub(rb"\1", inner)', "Directive(inner"),
    ),
    (
        E + "14_broken_quoting_is_refused[client-first-no comma]",
        Guard(DIRECTIVES, r"(?=,|\Z)", ""),
    ),
    (
        E + "14_broken_quoting_is_refused[client-last-unterminated]",
        Guard(DIRECTIVES, r"""|\\[^\x00-\x1f\x7f])*"'""", r"""|\\[^\x00-\x1f\x7f])*"?'"""),
    ),
    (
        E + "15_unknown_directives_are_ignored[client-last]",
        Guard(
            DIRECTIVES,
            "directives.setdefault(name, [])",
            "if name in directives:\n"
            "            raise MalformedMessageError(name)\n"
            "        directives.setdefault(name, [])",
        ),
    ),
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
        Guard(CONTEXT, "raise error.with_traceback(None)", "raise"),
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
        G + "6_traceback_of_a_failed_send_holds_no_plaintext[rc4-second interrupted]",
        Guard(LAYER, "error.__traceback__ = None", "pass"),
    ),
    (
        G + "6_traceback_of_a_second_writer_holds_no_plaintext",
        Guard(LAYER, 'data = b""\n            raise Cont', "raise Cont"),
    ),
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
            "await checkpoint_if_cancelled()\n            await self._send(item)",
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
