"""The guards of GSSAPI and GSS-SPNEGO.

Those of NTLM need pyspnego, those of Kerberos a realm.
"""

from __future__ import annotations

from tests.attacks.guard import EXCHANGE, FRAMING, MECHANISM, Guard
from tests.attacks.guards_framing import TRUNCATED
from tests.attacks.guards_state import not_latched

__all__ = ["GUARDS", "KERBEROS_GUARDS"]

CREDENTIALS = "saslwrap/mechanisms/gss/credentials.py"
ERRORS = "saslwrap/mechanisms/gss/errors.py"
GSSAPI = "saslwrap/mechanisms/gssapi.py"
LAYER = "saslwrap/mechanisms/gss/layer.py"
NTLM = "saslwrap/mechanisms/gss/ntlm.py"
PROVIDER = "saslwrap/mechanisms/gss/provider.py"
SIDE = "saslwrap/mechanisms/gss/side.py"
SPNEGO = "saslwrap/mechanisms/gss_spnego.py"
TOKENS = "saslwrap/mechanisms/gss/tokens.py"

C = "test_c_gss.py::test_c10_"
E = "test_e_gssapi.py::test_e1"
S = "test_e_spnego.py::test_"
N = "test_e_ntlm.py::test_e2_"
READ = "test_e_ntlm.py::test_e16_token_"

# Tokens

errors_pass = Guard(
    PROVIDER,
    "return _translated(work, unwrap_error)",
    "try:\n            return work()\n        except Exception:\n            return token, True",
)
signed_passes = Guard(LAYER, "if self._encrypted and not encrypted:", "if False:")
sequence_unasked = Guard(LAYER, "and Flag.SEQUENCE in flags", "and True")

# The word on layers. Without confidentiality it stands in clear between a header and a MIC.

unverified = Guard(
    PROVIDER,
    "result = self._proxy.unwrap(token)",
    'result = __import__("types").SimpleNamespace(data=token[16:-12], encrypted=False)',
)
WORD = "if encrypted or len(plain) < 4:"
encrypted_word = Guard(GSSAPI, WORD, "if len(plain) < 4:")
short_word = Guard(GSSAPI, WORD, "if encrypted:")
CHOSEN = "if chosen == layer and layer in offered:"
not_offered = Guard(GSSAPI, CHOSEN, "if chosen == layer:")
POLICY = "if self._least <= ssf <= self._greatest:"
any_ssf = Guard(GSSAPI, POLICY, "if True:")
size_assumed = Guard(
    GSSAPI,
    "if assume_maxbuf is None:",
    "assume_maxbuf = assume_maxbuf or 65536\n            if False:",
)
no_room = Guard(LAYER, "if limit < 1:", "if False:")

# NTLM

NEEDED = "if flags is None or flags & needed != needed:"
nothing_needed = Guard(NTLM, NEEDED, "if flags is None:")
KEY = "return 128 if flags & _KEY_128"
always_128 = Guard(NTLM, KEY, "return 128 if True")
unwatched = Guard(SPNEGO, "return watch.ssf", "return 128")
ntlm_allowed = Guard(SPNEGO, 'return gss.protocol == "ntlm" and not ntlm', "return False")

NO_PAIRS = "if pairs is None or not int.from_bytes("
takes_anything = Guard(
    NTLM, NO_PAIRS, "pairs = pairs or {}\n        if False and not int.from_bytes("
)
acceptor_takes_anything = Guard(PROVIDER, 'state["_lm"] = state["_nt_v1"] = False', "pass")
HAS_MIC = 'pairs.get(_AV_FLAGS, b""), "little") & _HAS_MIC:'
talked_out_of = Guard(NTLM, HAS_MIC, HAS_MIC.replace(":", " | 2:"))
decoy_seen = Guard(
    NTLM,
    'message = open_token(token or b"")',
    'message = b"".join((token or b"").partition(_AUTHENTICATE)[1:])',
)
mic_cut_off = Guard(NTLM, "if 0 < offset < _BEHIND_MIC or", "if")
unsigned = Guard(NTLM, "or not message.startswith(_AUTHENTICATE):", "or False:")
twice = Guard(NTLM, "self._flags is not None or", "")
proof_leaves = Guard(SPNEGO, "if self._watch.seen:", "if False:")
server_unlisted = Guard(SPNEGO, "if self._watch.seen and not self._listed:", "if False:")
client_unlisted = Guard(SPNEGO, "and self._in_spnego and not self._listed:", "and False:")
steps_out = Guard(SPNEGO, "if self._in_spnego and message[0] != RESPONSE:", "if False:")
said_twice = Guard(TOKENS, 'return b"" if mic == fields.get(_TOKEN_FIELD) else mic', "return mic")
FORM = "if token[0] not in (_INITIAL, RESPONSE):"
any_form = Guard(TOKENS, FORM, f"{FORM}\n            return {{}}\n        if False:")
any_name = Guard(TOKENS, "if mechanism != _SPNEGO or", "if")
LENGTH = "stop - start > _LONGEST.get(token[at], -1)"

# Bindings

unbound = Guard(SIDE, "bindings is not None and not bound:", "bindings is not None and False:")
any_is_bound = Guard(
    PROVIDER,
    "bool(int(native.actual_flags) & _CHANNEL_BOUND)",
    "bool(int(native.actual_flags) | _CHANNEL_BOUND)",
)
BINDINGS = '"channel_bindings": bindings,'

PARSERS = "except Exception as error:  # a provider's"
parsers_raise = Guard(PROVIDER, PARSERS, "except LookupError as error:  # a provider's")

ENDED = 'if not all(getattr(proxy, "complete", True)'
ended_by_the_peer = Guard(PROVIDER, ENDED, ENDED.replace("not all(", "not all(True or "))

ANSWER = "if not message or message[0] != RESPONSE:"
opens_anew = Guard(SPNEGO, ANSWER, "if not message:")

endless = Guard(PROVIDER, "if self._steps > _MOST_STEPS:", "if False:")

NTLM_GUARDS: list[tuple[str, Guard]] = [
    (C + "one_bit_of_a_frame_is_refused[ntlm-client]", errors_pass),
    (C + "one_bit_of_a_frame_is_refused[ntlm-server]", Guard(FRAMING, TRUNCATED, "if False:")),
    (C + "spliced_tokens_are_refused[ntlm-client]", errors_pass),
    (C + "token_of_another_length_is_refused[ntlm-server]", errors_pass),
    (C + "tokens_out_of_turn_are_refused[ntlm-client-replay]", errors_pass),
    (C + "token_that_comes_back_to_its_sender_is_refused[ntlm-server]", errors_pass),
    (C + "token_of_another_session_is_refused[ntlm-client]", errors_pass),
    (
        C + "message_that_was_not_encrypted_is_not_sent[client]",
        Guard(LAYER, "if self._encrypt and not encrypted:", "if False:"),
    ),
    (C + "client_refuses_a_context_that_was_not_granted_sequence[ntlm]", sequence_unasked),
    (
        E + "7_token_over_the_peers_size_is_not_sent[server]",
        Guard(LAYER, "if len(token) > self._peer_maxbuf:", "if False:"),
    ),
    (S + "e2_weak_session_of_ntlm_is_refused[client-signed]", nothing_needed),
    (S + "e2_weak_session_of_ntlm_is_refused[server-no session security]", nothing_needed),
    (S + "e2_weak_session_of_ntlm_is_refused[client-56 bits]", always_128),
    (S + "e2_weak_session_of_ntlm_is_refused[server-40 bits]", always_128),
    (S + "e2_weak_session_of_ntlm_is_refused[server-signed]", unwatched),
    (
        S + "e2_weak_session_of_ntlm_is_refused[server-56 bits]",
        Guard(SPNEGO, "if least <= ssf <= greatest:", "if True:"),
    ),
    (S + "e2_ntlm_is_never_taken_for_integrity[client-signed]", nothing_needed),
    (S + "e2_ntlm_is_never_taken_for_integrity[server-no security]", nothing_needed),
    (S + "e2_server_that_does_not_wait_for_the_proof_is_refused", unwatched),
    (S + "e2_ntlm_has_to_be_allowed[client]", ntlm_allowed),
    (S + "e2_ntlm_has_to_be_allowed[server]", ntlm_allowed),
    (S + "e11_client_that_ends_spnego_by_itself_is_nobody[NTLM begun]", ended_by_the_peer),
    (S + "e11_client_that_ends_spnego_by_itself_is_nobody[nothing begun]", ended_by_the_peer),
    (
        S + "e11_success_before_the_end_is_refused[ntlm-0-nothing]",
        Guard(
            EXCHANGE,
            "if self._mechanism is None or not self._mechanism.complete:",
            "if False:",
        ),
    ),
    (
        S + "e11_token_after_the_end_is_refused[ntlm-server]",
        Guard(MECHANISM, "if self._complete:", "if False:"),
    ),
    (
        S + "e16_wrong_message_is_refused_at_every_step[ntlm-client-empty]",
        Guard(SPNEGO, ANSWER, "if message and message[0] != RESPONSE:"),
    ),
    (S + "e16_wrong_message_is_refused_at_every_step[ntlm-server-NTLM, cut]", parsers_raise),
    (
        N + "relayed_message_without_its_session_key_is_refused",
        Guard(NTLM, "if exchanged and len(", "if False and len("),
    ),
    (
        N + "server_does_not_choose_the_channel",
        Guard(SPNEGO, "if self._watch.bound and", "if False and"),
    ),
    (N + "nobody_logs_in_without_the_password[watch-unbound]", takes_anything),
    (N + "nobody_logs_in_without_the_password[acceptor-unbound]", acceptor_takes_anything),
    (N + "nobody_logs_in_without_the_password[acceptor-bound]", acceptor_takes_anything),
    (N + "server_refuses_ntlmv1[watch-1]", takes_anything),
    (N + "server_refuses_ntlmv1[acceptor-0]", acceptor_takes_anything),
    (N + "client_sends_no_ntlmv1[2]", takes_anything),
    (N + "relayed_message_without_its_mic_is_refused[cut off]", mic_cut_off),
    (N + "relayed_message_without_its_mic_is_refused[talked out of]", talked_out_of),
    (N + "message_with_another_signature_is_refused", unsigned),
    (N + "decoy_behind_the_message_hides_nothing", decoy_seen),
    (N + "message_in_another_form_of_spnego_is_refused[primitive]", any_form),
    (N + "second_message_does_not_hide_a_weak_session", twice),
    (N + "client_hands_out_nothing_for_a_weak_session[neither]", proof_leaves),
    (N + "client_hands_out_nothing_for_a_weak_session[40 bits]", proof_leaves),
    (N + "server_whose_mic_over_the_list_is_missing_is_refused[struck_out]", server_unlisted),
    (N + "server_whose_mic_over_the_list_is_missing_is_refused[put_outside]", server_unlisted),
    (N + "server_whose_mic_over_the_list_is_missing_is_refused[said_twice]", said_twice),
    (N + "client_whose_mic_over_the_list_is_missing_is_refused[struck_out]", client_unlisted),
    (N + "client_whose_mic_over_the_list_is_missing_is_refused[said_twice]", said_twice),
    (N + "client_that_steps_out_of_spnego_is_refused", steps_out),
    (N + "login_that_is_not_bound_to_the_servers_tls_is_refused[ntlm-zeros]", unbound),
    (
        N + "login_that_is_not_bound_to_the_servers_tls_is_refused[ntlm-zeros]",
        Guard(NTLM, 'self.bound = any(pairs.get(_AV_BINDINGS, b""))', "self.bound = True"),
    ),
    (
        N + "login_that_is_not_bound_to_the_servers_tls_is_refused[ntlm-another]",
        Guard(PROVIDER, BINDINGS, BINDINGS.replace(": bindings", ": None")),
    ),
    (READ + "in_a_form_that_der_does_not_have_is_not_read[initial, primitive]", any_form),
    (READ + "in_a_form_that_der_does_not_have_is_not_read[name, padded]", any_name),
    (READ + "that_takes_long_to_read_is_not_read[server-OID]", Guard(TOKENS, LENGTH, "False")),
    (READ + "that_takes_long_to_read_is_not_read[client-OID]", Guard(TOKENS, LENGTH, "False")),
    (
        READ + "that_takes_long_to_read_is_not_read[server-elements]",
        Guard(TOKENS, "count > _MOST_ELEMENTS", "False"),
    ),
    (
        "test_e_ntlm.py::test_e16_message_of_ntlm_that_is_too_long_is_not_read",
        Guard(TOKENS, "if len(token) > MAX_TOKEN:", "if False:"),
    ),
    (S + "e16_login_without_an_end_is_refused[client]", endless),
    (S + "e16_login_without_an_end_is_refused[server]", endless),
    (S + "e16_garbage_is_an_error_of_ours[ntlm-client]", parsers_raise),
    (
        S + "g6_failed_mechanism_forgets[ntlm-client]",
        Guard(
            MECHANISM,
            "fault = self._fault = error.fresh()\n            self._forget()",
            "fault = self._fault = error.fresh()",
        ),
    ),
    (
        S + "g6_failed_mechanism_forgets[ntlm-client]",
        Guard(CREDENTIALS, "self.password = None", "pass"),
    ),
]

KERBEROS_GUARDS: list[tuple[str, Guard]] = [
    (
        C + "integrity_only_token_is_refused_under_confidentiality[sealed-client]",
        signed_passes,
    ),
    (
        C + "integrity_only_token_is_refused_under_confidentiality[spnego-server]",
        signed_passes,
    ),
    (C + "one_bit_of_a_frame_is_refused[signed-server]", errors_pass),
    (C + "spliced_tokens_are_refused[sealed-client]", errors_pass),
    (C + "genuine_token_behind_a_forged_one_is_refused[sealed-client]", not_latched),
    (C + "tokens_out_of_turn_are_refused[sealed-server-gap]", errors_pass),
    (C + "tokens_out_of_turn_are_refused[signed-client-swapped]", errors_pass),
    (
        C + "token_of_the_caller_is_left_as_it_is[signed-client]",
        Guard(LAYER, "unwrap(memoryview(token).tobytes())", "unwrap(memoryview(token).obj)"),
    ),
    (
        C + "word_on_layers_is_left_as_it_is[server]",
        Guard(MECHANISM, "octets(message).tobytes()", "bytes(message)"),
    ),
    (C + "context_without_sequence_is_offered_no_layer[replay detection]", sequence_unasked),
    (C + "context_without_sequence_is_refused_by_spnego[neither]", sequence_unasked),
    (C + "client_refuses_a_context_that_was_not_granted_sequence[spnego]", sequence_unasked),
    (C + "client_takes_no_layer_that_was_not_granted_sequence", sequence_unasked),
    (
        C + "layer_is_not_inferred_from_wrap",
        Guard(LAYER, "return Flag.INTEGRITY in flags", "return True"),
    ),
    (
        C + "layer_is_not_inferred_from_wrap",
        Guard(SPNEGO, "return gss.ssf if sealed else int(signed)", "return gss.ssf"),
    ),
    (
        C + "integrity_only_context_is_offered_no_confidentiality",
        Guard(GSSAPI, "if Flag.CONFIDENTIALITY in self._gss.flags:", "if True:"),
    ),
    (
        C + "server_that_proves_nothing_is_refused[sealed]",
        Guard(GSSAPI, "if Flag.MUTUAL not in gss.flags:", "if False:"),
    ),
    (
        C + "server_that_proves_nothing_is_refused[spnego]",
        Guard(SPNEGO, "and Flag.MUTUAL not in gss.flags:", "and False:"),
    ),
    (
        C + "answer_of_another_login_proves_nothing",
        Guard(ERRORS, "return MutualAuthenticationError(", "return AuthenticationError("),
    ),
    (E + "6_offer_is_refused[3 octets]", short_word),
    (
        E + "6_offer_is_refused[5 octets]",
        Guard(GSSAPI, "if rest or (peer_maxbuf and", "if (peer_maxbuf and"),
    ),
    (
        E + "6_offer_is_refused[none and a size]",
        Guard(GSSAPI, "or (peer_maxbuf and not offered & _LAYERS)", ""),
    ),
    (
        E + "6_offer_is_refused[unknown bit and a size]",
        Guard(GSSAPI, "if layer in common:", "if layer & 6:"),
    ),
    (E + "6_offer_is_refused[integrity only]", any_ssf),
    (E + "6_offer_is_refused[size 0]", size_assumed),
    (
        E + "6_bits_that_are_unknown_are_negotiated_off",
        Guard(GSSAPI, "choice = layer", "choice = _Layer(offered)"),
    ),
    (
        E + "6_offer_of_size_0_is_taken_for_what_was_assumed",
        Guard(GSSAPI, "peer_maxbuf = assume_maxbuf", "peer_maxbuf = 65536"),
    ),
    (E + "6_offer_under_confidentiality_is_refused[all]", encrypted_word),
    (E + "6_man_in_the_middle_cannot_take_layers_off[client-none]", unverified),
    (E + "6_man_in_the_middle_cannot_take_layers_off[server-int]", unverified),
    (E + "6_word_with_one_bit_altered_is_refused[client]", unverified),
    (E + "6_word_of_another_login_is_refused[server]", unverified),
    (E + "6_offer_that_comes_back_is_no_choice", unverified),
    (E + "6_word_that_is_no_token_is_refused[empty-client]", errors_pass),
    (E + "6_choice_is_refused[3 octets]", short_word),
    (
        E + "6_choice_is_refused[both layers]",
        Guard(GSSAPI, CHOSEN, "if chosen & layer and layer in offered:"),
    ),
    (E + "6_choice_is_refused[none, not offered]", not_offered),
    (E + "6_choice_is_refused[confidentiality, not offered]", not_offered),
    (
        E + "6_choice_is_refused[both layers]",
        Guard(GSSAPI, "if self._ad_compat and chosen ==", "if chosen =="),
    ),
    (
        E + "6_choice_is_refused[none and a size]",
        Guard(GSSAPI, "if layer == _Layer.NONE and peer_maxbuf:", "if False:"),
    ),
    (E + "6_choice_is_refused[size 0]", size_assumed),
    (E + "6_choice_is_refused[size 1]", no_room),
    (
        E + "6_choice_is_refused[authzid of 4097 octets]",
        Guard(GSSAPI, "if len(text) > _AUTHZID_LIMIT:", "if False:"),
    ),
    (
        E + "6_choice_is_refused[authzid with NUL]",
        Guard(GSSAPI, 'if "\\0" in authzid:', "if False:"),
    ),
    (
        E + "6_choice_is_refused[not UTF-8]",
        Guard(GSSAPI, "authzid = text.decode()", 'authzid = text.decode(errors="replace")'),
    ),
    (E + "6_choice_under_confidentiality_is_refused[layer]", encrypted_word),
    (
        E + "6_choice_of_both_layers_is_confidentiality_for_active_directory",
        Guard(GSSAPI, "chosen = _Layer.CONFIDENTIALITY", "chosen = _Layer.INTEGRITY"),
    ),
    (E + "6_choice_below_the_minimum_is_refused[integrity]", any_ssf),
    (
        E + "6_answer_to_the_end_of_kerberos_is_refused[token]",
        Guard(
            GSSAPI,
            'if message:\n            raise MalformedMessageError("the client',
            'if False:\n            raise MalformedMessageError("the client',
        ),
    ),
    (E + "7_size_below_the_overhead_of_a_token_is_refused[client-sealed]", no_room),
    (E + "7_size_below_the_overhead_of_a_token_is_refused[server-signed]", no_room),
    (
        E + "7_tokens_are_never_over_the_peers_size[client-sealed]",
        Guard(
            PROVIDER,
            "native.get_wrap_size_limit(maximum_token,",
            "native.get_wrap_size_limit(maximum_token + 1,",
        ),
    ),
    (
        S + "e11_success_before_the_end_is_refused[sealed-1-its token]",
        Guard(EXCHANGE, "if reply:", "if False:"),
    ),
    (S + "e11_server_that_ends_spnego_by_itself_proves_nothing", ended_by_the_peer),
    (N + "login_that_is_not_bound_to_the_servers_tls_is_refused[sealed-none]", unbound),
    (N + "login_that_is_not_bound_to_the_servers_tls_is_refused[sealed-none]", any_is_bound),
    (N + "login_that_is_not_bound_to_the_servers_tls_is_refused[spnego-none]", unbound),
    (N + "login_that_is_not_bound_to_the_servers_tls_is_refused[spnego-none]", any_is_bound),
    (S + "e2_server_that_picks_ntlm_is_refused[picked]", ntlm_allowed),
    (S + "e2_server_that_opens_anew_is_refused[list]", opens_anew),
    (
        S + "g6_failed_mechanism_forgets[sealed-client]",
        Guard(SIDE, "self._gss = None", "pass"),
    ),
    (
        S + "g6_failed_mechanism_forgets[sealed-client]",
        Guard(GSSAPI, "self._agreeing = None", "pass"),
    ),
    (
        S + "g6_failed_mechanism_forgets[sealed-server]",
        Guard(
            GSSAPI,
            "self._next = self._establish  # drop the negotiation,",
            "pass  # drop the negotiation,",
        ),
    ),
]

GUARDS = NTLM_GUARDS + KERBEROS_GUARDS
