"""The guards of what is negotiated: the least protection, the choice, maxbuf."""

from __future__ import annotations

from tests.attacks.guard import (
    CIPHERS,
    CLIENT,
    DIRECTIVES,
    KEYS,
    LDAP,
    MESSAGES,
    NEGOTIATION,
    PROPERTIES,
    SERVER,
    Guard,
)
from tests.attacks.guards_framing import no_limit

__all__ = ["GUARDS"]

E_MINIMUM = "test_e_minimum.py::test_e"
E_CHOICE = "test_e_choice.py::test_e"
E_MAXBUF = "test_e_maxbuf.py::test_e"

CHOSEN = "if (qop, response.cipher) =="
TWICE = "if len(values) > 1:"
FITS = "maximum_message(maxbuf, block_size)"
PROVEN = "proof is None or not compare_digest("

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
fits_always = Guard(NEGOTIATION, FITS, "1")
maxbuf_unchecked = Guard(NEGOTIATION, "if chosen[0].qop is not QOP.AUTH:", "if False:")

GUARDS: list[tuple[str, Guard]] = [
    (E_MINIMUM + "1_offer_below_the_minimum_is_refused_before_a_response[int]", no_minimum),
    (
        E_MINIMUM + "1_offer_below_the_minimum_is_refused_before_a_response[layer required]",
        Guard(PROPERTIES, "return max(self.min_ssf, 1), self.max_ssf", "return 0, self.max_ssf"),
    ),
    (E_MINIMUM + "1_nothing_is_sent_to_a_server_that_offers_too_little[auth]", no_minimum),
    (
        E_MINIMUM + "1_nothing_is_sent_to_a_server_that_offers_too_little[auth]",
        Guard(LDAP, "yield Send(self._abort_message())", "pass"),
    ),
    (E_MINIMUM + "1_client_that_takes_less_than_the_minimum_is_refused[auth]", choice_unchecked),
    (E_MINIMUM + "1_client_that_takes_less_than_the_minimum_is_refused[auth]", no_minimum),
    (E_MINIMUM + "1_server_offers_nothing_below_its_minimum[default]", no_minimum),
    (E_MINIMUM + "2_offer_stripped_to_weak_ciphers_is_refused[auth-conf-rc4-40]", no_minimum),
    (E_MINIMUM + "2_weak_cipher_is_refused_by_the_server[rc4-40]", choice_unchecked),
    (E_MINIMUM + "2_weak_cipher_is_refused_by_the_server[rc4-40]", no_minimum),
    (
        E_MINIMUM + "2_cipher_that_is_not_named_is_not_used[client-rc4-40]",
        Guard(
            NEGOTIATION,
            "CIPHERS[name]) for name in ciphers]",
            "CIPHERS[name]) for name in CIPHERS]",
        ),
    ),
    (E_MINIMUM + "2_man_in_the_middle_gets_nobody_below_his_minimum[both]", no_minimum),
    (E_MINIMUM + "2_man_in_the_middle_gets_nobody_below_his_minimum[server]", choice_unchecked),
    (E_CHOICE + "3_choice_that_was_not_offered_is_refused[auth]", choice_unchecked),
    (
        E_CHOICE + "3_choice_that_was_not_offered_is_refused[des]",
        Guard(SERVER, CHOSEN, f"if qop == protection.qop or {CHOSEN[3:]}"),
    ),
    (
        E_CHOICE + "3_list_is_no_choice[qops]",
        Guard(SERVER, CHOSEN, f"if protection.qop in qop and not cipher or {CHOSEN[3:]}"),
    ),
    (
        E_CHOICE + "3_list_is_no_choice[ciphers]",
        Guard(SERVER, CHOSEN, f'if (cipher or "no") in (response.cipher or "") or {CHOSEN[3:]}'),
    ),
    (E_CHOICE + "3_two_choices_are_refused[auth-conf-ciphers]", repeats_accepted),
    (
        E_CHOICE + "3_cipher_without_confidentiality_is_refused[rc4-auth]",
        Guard(SERVER, "response.cipher is not None and qop !=", "None is not None and qop !="),
    ),
    (E_CHOICE + "3_realm_that_was_not_offered_is_refused[evil.example]", any_realm),
    (
        E_CHOICE + "3_realms_that_were_read_before_are_not_any_realm",
        Guard(SERVER, "realms, Collection,", "realms, object,"),
    ),
    (
        E_CHOICE + "3_algorithm_other_than_md5_sess_is_refused[md5]",
        Guard(MESSAGES, '!= "md5-sess":', '== "md4-sess":'),
    ),
    (
        E_CHOICE + "3_client_chooses_one_of_what_was_offered",
        Guard(NEGOTIATION, "in wanted if protection in offered]", "in wanted if offered]"),
    ),
    (
        E_CHOICE + "4_rewritten_choice_breaks_the_clients_proof[conf to int]",
        Guard(KEYS, "NONCE_COUNT, self.cnonce, self.qop, a2", "NONCE_COUNT, self.cnonce, a2"),
    ),
    (E_CHOICE + "4_rewritten_choice_breaks_the_clients_proof[authzid]", authzid_unhashed),
    (
        E_CHOICE + "4_rewritten_choice_breaks_the_clients_proof[digest-uri]",
        Guard(KEYS, "a2 = _hex(purpose + self.digest_uri + zeros)", "a2 = _hex(purpose + zeros)"),
    ),
    (
        E_CHOICE + "4_rewritten_choice_breaks_the_clients_proof[case]",
        Guard(SERVER, "qop=response.qop or", 'qop=(response.qop or b"").lower() or'),
    ),
    (E_CHOICE + "4_rewritten_authzid_breaks_the_clients_proof[u:bob]", authzid_unhashed),
    (E_CHOICE + "4_proof_for_a_rewritten_choice_is_refused[auth]", nothing_proven),
    (
        E_CHOICE + "4_rewritten_cipher_fails_at_the_first_frame[rc4-rc4-40-server]",
        Guard(KEYS, "root = session_key[:key_octets]", "root = session_key"),
    ),
    (
        E_CHOICE + "4_rewritten_cipher_fails_at_the_first_frame[3des-des-client]",
        Guard(CIPHERS, "first, last = key[:7],", "first, last = key[:7], key[:7] or"),
    ),
    (E_CHOICE + "4_cipher_rewritten_to_one_below_the_minimum_is_refused[rc4-40]", choice_unchecked),
    (
        E_MAXBUF + "5_maxbuf_out_of_range_is_refused[client-conf-2^24]",
        Guard(NEGOTIATION, "if not MIN_MAXBUF <= maxbuf", "if not MIN_MAXBUF"),
    ),
    (E_MAXBUF + "5_maxbuf_out_of_range_is_refused[client-conf-2^24]", maxbuf_unchecked),
    (
        E_MAXBUF + "5_maxbuf_out_of_range_is_refused[server-int-400 digits]",
        Guard(SERVER, "protection.fits(check_maxbuf(peer_maxbuf))", "protection.fits(peer_maxbuf)"),
    ),
    (
        E_MAXBUF + "5_maxbuf_that_is_no_number_is_refused[server-conf--1]",
        Guard(MESSAGES, "if not _DIGITS.fullmatch(", "if not ("),
    ),
    (
        E_MAXBUF + "5_maxbuf_out_of_range_does_no_harm_without_a_layer[client-2^24]",
        Guard(NEGOTIATION, "if chosen[0].qop is not QOP.AUTH:", "if True:"),
    ),
    (
        E_MAXBUF + "5_maxbuf_out_of_range_does_no_harm_without_a_layer[server-2^24]",
        Guard(SERVER, "if protection.qop is not QOP.AUTH and not", "if not"),
    ),
    (
        E_MAXBUF + "5_hundreds_of_digits_never_become_a_number[client-nines]",
        Guard(MESSAGES, "if len(significant) <= 8 else", "if len(significant) <= 4300 else"),
    ),
    (
        E_MAXBUF + "5_hundreds_of_digits_never_become_a_number[server-zeros and 65536]",
        Guard(MESSAGES, '.lstrip(b"0")', ""),
    ),
    (E_MAXBUF + "5_maxbuf_too_small_for_a_block_is_refused[client-3des-21]", fits_always),
    (E_MAXBUF + "5_maxbuf_too_small_for_a_block_is_refused[server-3des-21]", fits_always),
    (
        E_MAXBUF + "5_maxbuf_in_range_bounds_what_is_sent[client-rc4-17-1]",
        Guard(CLIENT, "peer_maxbuf=challenge.maxbuf,", "peer_maxbuf=65536,"),
    ),
    (
        E_MAXBUF + "5_maxbuf_in_range_bounds_what_is_sent[server-3des-22-5]",
        Guard(SERVER, "peer_maxbuf=peer_maxbuf,", "peer_maxbuf=65536,"),
    ),
    (E_MAXBUF + "5_rewritten_maxbuf_denies_service_at_most[rc4-1008-server]", no_limit),
    (E_MAXBUF + "5_rewritten_maxbuf_denies_service_at_most[3des-17-client]", fits_always),
]
