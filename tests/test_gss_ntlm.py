"""GSS-SPNEGO over NTLM, both sides in this process: no realm, no server, no library of the system.

What crosses between the sides can be bent here, so this is also where the policy on NTLM's strength
is held against sessions that are weaker than they look.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saslwrap import (
    AuthenticationError,
    ChannelInfo,
    GSSSPNEGOServer,
    IntegrityError,
    MalformedMessageError,
    NegotiationError,
    SASLError,
    SecurityLayer,
    SecurityProperties,
    UsageError,
)
from saslwrap.mechanisms.gss.ntlm import NTLMWatch
from saslwrap.testing import connect_mechanisms
from tests.gss_pairs import (
    NTLM_DOMAIN,
    NTLM_USERNAME,
    PLACE,
    check_both_ways,
    contexts_of,
    gss_contexts,
    gss_pair,
    holding,
    leave_ntlm_alone,
    logged_in,
    tracebacks_of,
)
from tests.peers.directory import ALICE
from tests.test_digest_md5_secrets import shown
from tests.test_gss_tokens import tlv

pytest.importorskip("spnego")

SIGN, SEAL, EXTENDED, KEY_128, KEY_56 = 0x10, 0x20, 0x80000, 0x20000000, 0x80000000
STRONG = SIGN | SEAL | EXTENDED | KEY_128
FLAGS_AT = {1: 12, 2: 20, 3: 60}
"""Where an NTLM message has its flags, by its type (MS-NLMP section 2.2.1)."""


@pytest.fixture(autouse=True)
def _ntlm_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NTLM knows Alice. There is no realm and no ticket, whatever the machine has."""
    leave_ntlm_alone(tmp_path, monkeypatch)


# a login that works


def test_what_a_login_leaves_behind() -> None:
    client, server = logged_in("ntlm-128")
    for side in (client, server):
        assert side.authcid == NTLM_USERNAME
        assert side.authzid is None
        assert side.context is not None
        assert (side.context.mechanism, side.context.ssf) == ("GSS-SPNEGO", 128)
        assert (side.context.cipher, side.context.qop) == ("rc4", "auth-conf")
    check_both_ways(contexts_of(logged_in("ntlm-128")))


def test_the_messages() -> None:
    client, server = gss_pair("ntlm-128")
    negotiate = client.step(None)
    challenge = server.step(negotiate)
    authenticate = client.step(challenge)
    last = server.step(authenticate)
    tokens = (negotiate, challenge, authenticate)
    assert [ntlm_type(token) for token in tokens] == [1, 2, 3]
    assert (client.complete, server.complete) == (False, True)
    assert client.step(last) is None
    assert client.complete


def test_the_plaintext_does_not_show() -> None:
    contexts = gss_contexts("ntlm-128")
    token = contexts.client.seal(b"a secret of 32 octets, no pad...")
    assert len(token) == 16 + 32
    assert b"secret" not in token
    assert contexts.server.unseal(token) == b"a secret of 32 octets, no pad..."


def test_a_context_has_one_layer() -> None:
    for context in gss_contexts("ntlm-128"):
        SecurityLayer(context)
        with pytest.raises(UsageError, match="has a user already"):
            SecurityLayer(context)


def test_the_longest_message() -> None:
    contexts = gss_contexts("ntlm-128", client={"send_limit": 1000}, server={"send_limit": 17})
    limits = [context.stream_sizes.maximum_message for context in contexts]
    assert limits == [984, 1]
    check_both_ways(contexts, bytes(1))
    with pytest.raises(UsageError, match="over the maximum message of 1;"):
        contexts.server.seal(bytes(2))
    assert len(contexts.client.seal(bytes(984))) == contexts.client.peer_maxbuf == 1000


def test_altered_replayed_and_lost() -> None:
    for make in (flipped, replayed, lost):
        contexts = gss_contexts("ntlm-128")
        tokens = make([contexts.client.seal(b"message %d" % n) for n in range(3)])
        contexts.server.unseal(tokens[0])
        with pytest.raises(IntegrityError):
            contexts.server.unseal(tokens[1])
        with pytest.raises(IntegrityError):
            contexts.server.unseal(tokens[2])
        with pytest.raises(IntegrityError):
            contexts.server.seal(b"nothing more")


def flipped(tokens: list[bytes]) -> list[bytes]:
    return [tokens[0], tokens[1][:-1] + bytes([tokens[1][-1] ^ 1]), tokens[2]]


def replayed(tokens: list[bytes]) -> list[bytes]:
    return [tokens[0], tokens[0], tokens[2]]


def lost(tokens: list[bytes]) -> list[bytes]:
    return [tokens[0], tokens[2], tokens[1]]


# who may use it


@pytest.mark.parametrize("ntlm", [None, True])
def test_a_name_in_ntlms_form_asks_for_it(ntlm: bool | None) -> None:
    assert logged_in("ntlm-128", client={"ntlm": ntlm}).server.authcid == NTLM_USERNAME


@pytest.mark.parametrize(
    ("username", "ntlm"),
    [(NTLM_USERNAME, False), ("alice", None), ("alice@EXAMPLE.COM", None), ("alice", False)],
)
def test_a_client_that_does_not_ask_for_it(username: str, ntlm: bool | None) -> None:
    client, _ = gss_pair("ntlm-128", client={"username": username, "ntlm": ntlm})
    with pytest.raises(SASLError, match="ntlm=True") as caught:
        client.step(None)
    assert ALICE.password not in shown(caught.value)
    assert not client.complete


def test_a_plain_name_with_ntlm_allowed() -> None:
    client, server = gss_pair("ntlm-128", client={"username": "alice", "ntlm": True})
    token = client.step(None)
    assert ntlm_type(token) == 1
    assert server.step(token)


def test_a_server_that_does_not_accept_it() -> None:
    client, server = gss_pair("ntlm-128", server={"ntlm": False})
    token = client.step(None)
    with pytest.raises(SASLError) as caught:
        server.step(token)
    assert not isinstance(caught.value, UsageError)
    assert not server.complete


def test_a_server_does_not_accept_it_by_itself() -> None:
    client = gss_pair("ntlm-128").client
    with pytest.raises(SASLError):
        connect_mechanisms(client, GSSSPNEGOServer(**PLACE))
    assert not client.complete


@pytest.mark.parametrize(
    ("username", "password"),
    [(NTLM_USERNAME, "wrong"), (rf"{NTLM_DOMAIN}\nobody", ALICE.password), (r"OTHER\alice", "x")],
)
def test_wrong_credentials_look_the_same(username: str, password: str) -> None:
    client, server = gss_pair("ntlm-128", client={"username": username, "password": password})
    authenticate = client.step(server.step(client.step(None)))
    with pytest.raises(AuthenticationError) as caught:
        server.step(authenticate)
    assert str(caught.value) == "the client's token does not hold"
    assert caught.value.__cause__ is None
    assert ALICE.password not in shown(caught.value)
    assert server.authcid is None


def test_no_user_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NTLM_USER_FILE")
    client, server = gss_pair("ntlm-128")
    with pytest.raises(SASLError):
        connect_mechanisms(client, server)
    assert not server.complete


# how strong it is


def ntlm_type(token: bytes | None) -> int:
    """The type of the NTLM message in a token of SPNEGO's."""
    assert token is not None
    at = token.index(b"NTLMSSP\0")
    return token[at + 8]


def with_flags(token: bytes | None, *, without: int) -> bytes:
    """The same token, and the NTLM message in it without these flags."""
    assert token is not None
    at = token.index(b"NTLMSSP\0") + FLAGS_AT[ntlm_type(token)]
    flags = int.from_bytes(token[at : at + 4], "little") & ~without
    return token[:at] + flags.to_bytes(4, "little") + token[at + 4 :]


MIC_IS_THERE = b"\6\0\4\0\2\0\0\0"
BOUND = b"\x0a\0\x10\0" + bytes(15) + b"x"
END = bytes(4)


def authenticate_message(
    flags: int,
    *,
    pairs: bytes = MIC_IS_THERE + END,
    length: int | None = None,
    at: int = 88,
    user: str = "alice",
    domain: str = "LAB",
    key: bytes = bytes(16),
) -> bytes:
    """An AUTHENTICATE_MESSAGE, as far as the watch looks."""
    response = (bytes(44) + pairs)[:length]
    nt = len(response).to_bytes(2, "little") * 2 + at.to_bytes(4, "little")
    empty = bytes(4) + at.to_bytes(4, "little")
    codec = "utf-16-le" if flags & 1 else "latin-1"
    names, fields, end = b"", b"", at + len(response)
    for name in (domain, user):
        octets = name.encode(codec)
        place = (end + len(names)).to_bytes(4, "little")
        fields, names = fields + len(octets).to_bytes(2, "little") * 2 + place, names + octets
    session = len(key).to_bytes(2, "little") * 2 + (end + len(names)).to_bytes(4, "little")
    head = b"NTLMSSP\0\3\0\0\0" + empty + nt + fields + empty + session
    return (head + flags.to_bytes(4, "little")).ljust(at, b"\0") + response + names + key


def watch(*tokens: bytes | None) -> NTLMWatch:
    watch = NTLMWatch()
    for token in tokens:
        watch.see(token)
    return watch


@pytest.mark.parametrize(
    ("flags", "ssf"),
    [
        (STRONG, 128),
        (STRONG | KEY_56, 128),
        (STRONG & ~KEY_128 | KEY_56, 56),
        (STRONG & ~KEY_128, 40),
        (0xFFFFFFFF, 128),
    ],
)
def test_the_strength_of_a_session(flags: int, ssf: int) -> None:
    assert watch(None, b"", b"NTLMSSP\0\1", authenticate_message(flags)).ssf == ssf


@pytest.mark.parametrize("missing", [SIGN, SEAL, EXTENDED])
def test_a_session_that_protects_nothing(missing: int) -> None:
    with pytest.raises(NegotiationError, match="without sealing and extended session security"):
        assert watch(authenticate_message(STRONG & ~missing)).ssf


WEAK = authenticate_message(STRONG & ~KEY_128)


@pytest.mark.parametrize("tokens", [[], [b"NTLMSSP\0\1\0\0\0" + bytes(80)]], ids=["none", "other"])
def test_no_message_fixes_the_session(tokens: list[bytes]) -> None:
    with pytest.raises(NegotiationError):
        assert watch(*tokens).ssf
    assert not watch(*tokens).seen


@pytest.mark.parametrize("second", [authenticate_message(STRONG), WEAK], ids=["same", "weak"])
def test_only_one_message_may_fix_the_session(second: bytes) -> None:
    for tokens in ((authenticate_message(STRONG), second), (second, authenticate_message(STRONG))):
        with pytest.raises(AuthenticationError, match="more than once"):
            watch(*tokens)


def test_a_message_without_its_signature_is_none() -> None:
    """pyspnego would take it, within SPNEGO."""
    message = b"XXXXXXXX" + authenticate_message(STRONG)[8:]
    with pytest.raises(MalformedMessageError):
        watch(message)
    token = tlv(0xA1, tlv(0x30, tlv(0xA2, tlv(0x04, message))))
    with pytest.raises(AuthenticationError, match="or is none"):
        watch(token)


@pytest.mark.parametrize(
    "message",
    [
        authenticate_message(STRONG, length=0),
        authenticate_message(STRONG, length=24),
        authenticate_message(STRONG, length=44),
        authenticate_message(STRONG)[:61],
        authenticate_message(STRONG)[:-1],
        authenticate_message(STRONG, pairs=END),
        authenticate_message(STRONG, pairs=b"\6\0\4\0\1\0\0\0" + END),
        authenticate_message(STRONG, pairs=END + MIC_IS_THERE),
        authenticate_message(STRONG, at=72),
    ],
    ids=["LM", "NTLMv1", "no pairs", "cut short", "cut", "no flags", "no MIC", "behind", "no room"],
)
def test_what_proves_nothing_is_refused(message: bytes) -> None:
    with pytest.raises(AuthenticationError, match="proves nothing: unset LM_COMPAT_LEVEL"):
        watch(message)


@pytest.mark.parametrize("key", [b"", b"k", bytes(15), bytes(17)])
def test_a_session_key_has_16_octets(key: bytes) -> None:
    """An empty one would be anybody's."""
    with pytest.raises(AuthenticationError, match="no session key"):
        watch(authenticate_message(STRONG | 0x40000000, key=key))
    assert watch(authenticate_message(STRONG | 0x40000000)).ssf == 128
    assert watch(authenticate_message(0x40000000, key=b"\0")).ssf == 0


@pytest.mark.parametrize("flags", [STRONG, STRONG | 1])
@pytest.mark.parametrize(
    ("user", "domain"),
    [
        ("", ""),
        ("", "LAB"),
        ("ADMIN\\", ""),
        ("a", "LAB\\"),
        ("a\n", ""),
        ("a", "\x1b"),
        ("\0", ""),
    ],
)
def test_a_user_without_a_name_is_nobody(user: str, domain: str, flags: int) -> None:
    with pytest.raises(AuthenticationError, match="no user name"):
        watch(authenticate_message(flags, user=user, domain=domain))
    assert watch(authenticate_message(flags, user="jürgen", domain="")).seen


@pytest.mark.parametrize(
    ("pairs", "bound"),
    [
        (MIC_IS_THERE + BOUND, True),
        (BOUND + MIC_IS_THERE + END, True),
        (MIC_IS_THERE + b"\x0a\0\x10\0" + bytes(16) + END, False),
        (MIC_IS_THERE + END, False),
    ],
)
def test_whether_it_is_bound_to_a_channel(pairs: bytes, bound: bool) -> None:
    assert watch(authenticate_message(STRONG, pairs=pairs)).bound is bound


def test_the_watch_reads_what_pyspnego_sends() -> None:
    client, server = gss_pair("ntlm-128")
    token = client.step(server.step(client.step(None)))
    assert watch(token).ssf == 128
    assert watch(with_flags(token, without=KEY_128)).ssf == 56
    assert watch(with_flags(token, without=KEY_128 | KEY_56)).ssf == 40


@pytest.mark.parametrize("without", [KEY_128, KEY_128 | KEY_56, EXTENDED, SEAL, SIGN])
@pytest.mark.parametrize("bent", FLAGS_AT)
def test_flags_bent_under_way(bent: int, without: int) -> None:
    """Who stands in between gets no weaker session: NTLM's MIC is in the way."""
    client, server = gss_pair("ntlm-128")

    def pass_on(token: bytes | None) -> bytes | None:
        if token and b"NTLMSSP\0" in token and ntlm_type(token) == bent:
            return with_flags(token, without=without)
        return token

    token = client.step(None)
    with pytest.raises(SASLError):  # noqa: PT012 - at which message differs
        while not (client.complete and server.complete):
            token = client.step(pass_on(server.step(pass_on(token))))
    assert not server.complete


def test_a_client_without_extended_session_security(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own policy: both sides agreed on it, so no MIC is in the way."""
    monkeypatch.setenv("LM_COMPAT_LEVEL", "0")
    client, server = gss_pair("ntlm-128")
    with pytest.raises(AuthenticationError, match="unset LM_COMPAT_LEVEL"):
        client.step(server.step(client.step(None)))


def test_a_session_without_protection_says_so() -> None:
    assert watch(authenticate_message(STRONG & ~(SIGN | SEAL))).ssf == 0


REFUSED_BY_POLICY = "GSS-SPNEGO gives an SSF of 128 .ntlm.; wanted: an SSF of "


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        (SecurityProperties(min_ssf=129), "129 to 256"),
        (SecurityProperties(min_ssf=0, max_ssf=127), "0 to 127"),
    ],
)
def test_another_strength_is_wanted(properties: SecurityProperties, wanted: str) -> None:
    for side in ("client", "server"):
        client, server = gss_pair("ntlm-128", **{side: {"properties": properties}})
        with pytest.raises(NegotiationError, match=REFUSED_BY_POLICY + wanted):
            connect_mechanisms(client, server)


def test_integrity_alone_is_not_to_be_had() -> None:
    client, server = gss_pair("ntlm-128", properties=SecurityProperties(min_ssf=1, max_ssf=1))
    with pytest.raises(NegotiationError, match=r"allow confidentiality on both sides \(max_ssf\)"):
        connect_mechanisms(client, server)


def test_no_layer_where_none_is_wanted() -> None:
    pair = logged_in("ntlm-128", properties=SecurityProperties(min_ssf=0, max_ssf=0))
    assert [side.context for side in pair] == [None, None]
    assert pair.server.authcid == NTLM_USERNAME


@pytest.mark.parametrize("require_layer", [None, False, True])
def test_over_tls(require_layer: bool | None) -> None:
    properties = SecurityProperties(require_layer=require_layer)
    pair = gss_pair("ntlm-128", properties=properties)
    for side in pair:
        side.bind_channel(ChannelInfo(external_ssf=256))
    connect_mechanisms(*pair)
    assert [side.context is not None for side in pair] == [bool(require_layer)] * 2


def test_a_client_over_tls_that_the_server_knows_nothing_of() -> None:
    pair = gss_pair("ntlm-128")
    pair.client.bind_channel(ChannelInfo(external_ssf=256))
    with pytest.raises(NegotiationError, match=r"an SSF of 0 .*wanted: an SSF of 112 to 256"):
        connect_mechanisms(*pair)


# what is left of the password


def test_the_password_is_gone_after_the_login() -> None:
    pair = gss_pair("ntlm-128")
    assert holding(ALICE.password, pair)
    connect_mechanisms(*pair)
    assert holding(ALICE.password, pair) == []
    check_both_ways(contexts_of(pair))


def test_the_password_is_gone_after_a_login_that_failed() -> None:
    client = gss_pair("ntlm-128").client
    client.step(None)
    assert holding(ALICE.password, client)
    with pytest.raises(SASLError) as caught:
        client.step(b"no token")
    assert holding(ALICE.password, client, *tracebacks_of(caught.value)) == []


def test_no_text_shows_the_password() -> None:
    pair = gss_pair("ntlm-128")
    texts = [repr(pair)]
    connect_mechanisms(*pair)
    texts += [repr(pair), repr(contexts_of(pair))]
    assert ALICE.password not in "".join(texts)


# what is not installed


def in_another_process(code: str, *blocked: str) -> str:
    """Run `code` where the packages named cannot be imported; give what it prints."""
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in blocked)]
    program = "\n".join([*lines, "from saslwrap import *", f"place = {PLACE!r}", code])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRY = """
try:
    {}
except MechanismUnavailableError as error:
    print(error)
"""
NAME_AND_PASSWORD = repr(("alice", ALICE.password))


@pytest.mark.parametrize(
    "call",
    [
        "GSSAPIClient(**place).step(None)",
        f"GSSAPIClient(*{NAME_AND_PASSWORD}, **place).step(None)",
        "GSSAPIServer(**place).step(b'`token')",
        "GSSSPNEGOClient(**place).step(None)",
        f"GSSSPNEGOClient(*{NAME_AND_PASSWORD}, **place).step(None)",
    ],
)
def test_no_kerberos(call: str) -> None:
    said = in_another_process(TRY.format(call), "gssapi", "krb5")
    assert "pip install 'saslwrap[gssapi]'" in said
    assert "libgssapi-krb5-2" in said
    assert ALICE.password not in said


def test_ntlm_needs_no_kerberos() -> None:
    said = in_another_process(
        "from tests.gss_pairs import logged_in\nprint(logged_in('ntlm-128').server.context)",
        "gssapi",
        "krb5",
    )
    assert said == "<SecurityContext GSS-SPNEGO auth-conf rc4 ssf=128>\n"


@pytest.mark.parametrize(
    "name", ["GSSAPIClient", "GSSAPIServer", "GSSSPNEGOClient", "GSSSPNEGOServer"]
)
def test_without_the_extra(name: str) -> None:
    said = in_another_process(TRY.format(f"{name}(**place)"), "spnego")
    assert said.endswith("come with an extra: pip install 'saslwrap[gssapi]'\n")


def test_without_the_extra_the_mechanisms_are_not_chosen() -> None:
    code = "print(GSSAPIClient.best_ssf(SecurityProperties()), GSSSPNEGOClient.best_ssf("
    code += "SecurityProperties()))"
    assert in_another_process(code, "spnego") == "None None\n"


def test_a_server_does_not_choose_the_channel() -> None:
    """Its target information, which the client signs, names one; the client is on none."""
    client, server = gss_pair("ntlm-128")
    challenge = server.step(client.step(None))
    assert challenge is not None
    spnego = pytest.importorskip("spnego")
    token = spnego._spnego.unpack_token(challenge)
    message = spnego._ntlm_raw.messages.Challenge.unpack(token.response_token)
    information = message.target_info.copy()
    information[spnego._ntlm_raw.messages.AvId.channel_bindings] = b"x" * 16
    bent = spnego._ntlm_raw.messages.Challenge(
        message.flags, message.server_challenge, message.target_name, information
    )
    token = spnego._spnego.NegTokenResp(token.neg_state, token.supported_mech, bent.pack())
    with pytest.raises(NegotiationError, match="bind the login to a channel of its"):
        client.step(token.pack())
