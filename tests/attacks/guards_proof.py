"""The guards of nonces and proofs."""

from __future__ import annotations

from tests.attacks.guard import CLIENT, EXCHANGE, KEYS, MECHANISM, MESSAGES, SERVER, Guard
from tests.attacks.guards_offer import PROVEN, nothing_proven

__all__ = ["GUARDS"]

E_NONCES = "test_e_nonces.py::test_e"
E_PROOFS = "test_e_proofs.py::test_e"

SECRET = "return secrets.token_urlsafe(24)"
predictable = '"%032x" % __import__("random").getrandbits(128)'

GUARDS: list[tuple[str, Guard]] = [
    (
        E_NONCES + "8_nonces_of_the_server_are_unique_and_unpredictable",
        Guard(SERVER, SECRET, f"return {predictable}"),
    ),
    (
        E_NONCES + "8_nonces_of_the_server_are_unique_and_unpredictable",
        Guard(SERVER, SECRET, "return secrets.token_urlsafe(15)"),
    ),
    (
        E_NONCES + "8_recorded_response_does_not_pass_again",
        Guard(SERVER, "nonce=check_nonce(self._generate_nonce(),", 'nonce=check_nonce("constant",'),
    ),
    (
        E_NONCES + "8_server_that_repeats_its_nonce_gets_another_login",
        Guard(CLIENT, "check_nonce(self._generate_cnonce(),", 'check_nonce("constant",'),
    ),
    (
        E_NONCES + "9_cnonces_are_unique_and_unpredictable",
        Guard(CLIENT, SECRET, f"return {predictable}"),
    ),
    (
        E_NONCES + "9_cnonces_are_unique_and_unpredictable",
        Guard(CLIENT, SECRET, "return secrets.token_urlsafe(15)"),
    ),
    (
        E_NONCES + "9_own_cnonce_reflected_as_the_servers_nonce_is_refused",
        Guard(CLIENT, "if compare_digest(parameters.nonce,", "if False and (parameters.nonce,"),
    ),
    (
        E_NONCES + "9_own_nonce_reflected_as_the_clients_cnonce_is_refused",
        Guard(SERVER, "and not compare_digest(response.cnonce,", "and (response.cnonce,"),
    ),
    (
        E_NONCES + "9_response_that_was_made_for_another_service_is_refused[ldap/other]",
        Guard(SERVER, "and self._is_us(response.digest_uri.lower())", ""),
    ),
    (
        E_NONCES + "9_client_answers_one_challenge[again]",
        Guard(
            CLIENT,
            "if self._expected_rspauth is not None:",
            'if self._expected_rspauth is not None and b"rspauth" in (message or b""):',
        ),
    ),
    (E_PROOFS + "10_server_that_does_not_prove_itself_is_refused[wrong]", nothing_proven),
    (
        E_PROOFS + "10_server_that_does_not_prove_itself_is_refused[right and more]",
        Guard(MESSAGES, "if len(directives) == 1 else None", ""),
    ),
    (
        E_PROOFS + "10_server_that_does_not_prove_itself_is_refused[the client's]",
        Guard(
            KEYS,
            'return self._value(session_key, b":")',
            'return self._value(session_key, b"AUTHENTICATE" + b":")',
        ),
    ),
    (
        E_PROOFS + "10_right_proof_does_not_mend_a_wrong_one[wrong]",
        Guard(MECHANISM, "if self._fault is not None:", "if False:"),
    ),
    (
        E_PROOFS + "10_client_that_does_not_prove_itself_is_refused[wrong]",
        Guard(
            SERVER,
            "if compare_digest(parameters.response(",
            "if True or compare_digest(parameters.response(",
        ),
    ),
    (
        E_PROOFS + "10_client_that_does_not_prove_itself_is_refused[the server's]",
        Guard(
            KEYS,
            'return self._value(session_key, b"AUTHENTICATE:")',
            'return self._value(session_key, b":")',
        ),
    ),
    (
        E_PROOFS + "10_client_that_does_not_prove_itself_is_refused[upper case]",
        Guard(
            MESSAGES,
            '_HEX_32 = re.compile(rb"[0-9a-f]{32}")',
            '_HEX_32 = re.compile(rb"[0-9a-fA-F]{32}")',
        ),
    ),
    (
        E_PROOFS + "10_unknown_user_has_no_password_that_passes",
        Guard(SERVER, "if not (known and session_key):", "if not session_key:"),
    ),
    (
        E_PROOFS + "11_success_without_a_proof_is_refused",
        Guard(CLIENT, PROVEN, "proof is not None and not compare_digest("),
    ),
    (
        E_PROOFS + "11_success_without_a_proof_is_refused_over_ldap[layer-without]",
        Guard(EXCHANGE, "if self._mechanism is None or not self._mechanism.complete:", "if False:"),
    ),
    (E_PROOFS + "11_success_without_a_proof_is_refused_over_ldap[no layer-wrong]", nothing_proven),
    (
        E_PROOFS + "11_client_that_skips_its_proof_is_refused[nothing]",
        Guard(SERVER, "if message is None:", "if False:"),
    ),
    (
        E_NONCES + "12_nonce_that_is_not_the_servers_is_refused[other-ours hashed]",
        Guard(SERVER, "compare_digest(response.nonce, nonce)", "True"),
    ),
    (
        E_NONCES + "12_nonce_count_other_than_1_is_refused[00000002-1 hashed]",
        Guard(SERVER, "response.nonce_count == NONCE_COUNT", "True"),
    ),
    (
        E_NONCES + "12_nonce_count_of_another_form_is_refused[1]",
        Guard(MESSAGES, "nonce_count=_matching(", 'nonce_count=b"00000001" or _matching('),
    ),
    (E_NONCES + "12_proof_for_another_nonce_or_count_is_refused[nonce]", nothing_proven),
]
