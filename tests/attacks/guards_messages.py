"""The guards of the messages of a login: sizes, directives, names, quoting."""

from __future__ import annotations

from tests.attacks.guard import CLIENT, DIRECTIVES, MESSAGES, NAMES, SERVER, Guard
from tests.attacks.guards_offer import any_realm, repeats_accepted

__all__ = ["GUARDS"]

E_DIRECTIVES = "test_e_directives.py::test_e"
E_NAMES = "test_e_names.py::test_e"

limit_reached = Guard(DIRECTIVES, "if len(message) >= limit:", "if len(message) > limit:")
empty_accepted = Guard(MESSAGES, "if not (value :=", "if None is (value :=")

GUARDS: list[tuple[str, Guard]] = [
    (
        E_DIRECTIVES + "6_message_just_under_the_limit_is_read[client-2048]",
        Guard(DIRECTIVES, "if len(message) >= limit:", "if len(message) >= limit - 1:"),
    ),
    (
        E_DIRECTIVES + "6_message_just_under_the_limit_is_read[server-4096]",
        Guard(MESSAGES, "RESPONSE_LIMIT = 4096", "RESPONSE_LIMIT = 2048"),
    ),
    (E_DIRECTIVES + "6_message_at_the_limit_is_refused_unread[server-4096-0]", limit_reached),
    (
        E_DIRECTIVES + "6_message_at_the_limit_is_refused_unread[client-2048-0]",
        Guard(MESSAGES, "CHALLENGE_LIMIT = 2048", "CHALLENGE_LIMIT = 4096"),
    ),
    (E_DIRECTIVES + "6_proof_has_the_limit_of_the_challenge[2048-False]", limit_reached),
    (
        E_DIRECTIVES + "6_challenge_that_makes_our_response_too_long_is_not_answered",
        Guard(CLIENT, "if len(response) >= RESPONSE_LIMIT:", "if False:"),
    ),
    (
        E_DIRECTIVES + "7_directive_that_stands_twice_is_refused[client-nonce-another]",
        repeats_accepted,
    ),
    (
        E_DIRECTIVES + "7_directive_that_stands_twice_is_refused[server-authzid-in capitals]",
        Guard(DIRECTIVES, '.decode("latin-1").lower()', '.decode("latin-1")'),
    ),
    (
        E_DIRECTIVES + "7_directive_that_stands_twice_is_refused[client-stale-another]",
        Guard(MESSAGES, 'directives.one("stale")', "pass"),
    ),
    (
        E_DIRECTIVES + "7_directive_that_stands_twice_is_refused[server-username-another]",
        Guard(MESSAGES, '_filled(directives, "username")', "pass"),
    ),
    (
        E_DIRECTIVES + "7_directive_that_stands_twice_is_refused[server-realm-the same]",
        Guard(MESSAGES, 'realm=directives.one("realm"),', 'realm=directives.all("realm")[0],'),
    ),
    (E_DIRECTIVES + "7_proof_that_stands_twice_is_refused", repeats_accepted),
    (E_NAMES + "13_empty_name_is_refused_by_the_server[username]", empty_accepted),
    (E_NAMES + "13_empty_name_is_refused_by_the_server[authzid]", empty_accepted),
    (E_NAMES + "13_empty_realm_is_no_realm_of_ours", any_realm),
    (
        E_NAMES + "13_control_character_in_a_name_is_refused_by_the_server[NUL-authzid]",
        Guard(
            DIRECTIVES,
            r"""[^"\\\x00-\x08\x0a-\x1f\x7f]""",
            r"""[^"\\\x01-\x08\x0a-\x1f\x7f]""",
        ),
    ),
    (
        E_NAMES + "13_authzid_that_is_not_utf_8_is_refused",
        Guard(
            SERVER,
            'return response.authzid.decode("utf-8")',
            'return response.authzid.decode("latin-1")',
        ),
    ),
    (E_NAMES + "13_empty_nonce_or_nul_is_refused_by_the_client[nonce]", empty_accepted),
    (
        E_NAMES + "13_empty_names_and_nul_are_never_sent[authzid]",
        Guard(NAMES, "if not value and not may_be_empty:", "if False:"),
    ),
    (
        E_NAMES + "13_empty_names_and_nul_are_never_sent[NUL]",
        Guard(NAMES, "if _CONTROL.search(value):", "if False:"),
    ),
    (
        E_NAMES + "14_name_does_not_get_out_of_its_quotes[authzid]",
        Guard(DIRECTIVES, r'_NEEDS_ESCAPE.sub(rb"\\\1", value)', "value"),
    ),
    (
        E_NAMES + "14_what_is_hashed_is_unescaped[server-quote]",
        Guard(DIRECTIVES, r'_NEEDLESSLY_ESCAPED.sub(rb"\1", inner)', "inner"),
    ),
    (
        E_NAMES + "14_what_is_hashed_is_unescaped[client-quote]",
        Guard(DIRECTIVES, r'Directive(_ESCAPED.sub(rb"\1", inner)', "Directive(inner"),
    ),
    (
        E_NAMES + "14_broken_quoting_is_refused[client-first-no comma]",
        Guard(DIRECTIVES, r"(?=,|\Z)", ""),
    ),
    (
        E_NAMES + "14_broken_quoting_is_refused[client-last-unterminated]",
        Guard(DIRECTIVES, r"""|\\[^\x00-\x1f\x7f])*"'""", r"""|\\[^\x00-\x1f\x7f])*"?'"""),
    ),
    (
        E_DIRECTIVES + "15_unknown_directives_are_ignored[client-last]",
        Guard(
            DIRECTIVES,
            "directives.setdefault(name, [])",
            "if name in directives:\n"
            "            raise MalformedMessageError(name)\n"
            "        directives.setdefault(name, [])",
        ),
    ),
]
