from __future__ import annotations

import itertools
from typing import Any

import pytest

from saslwrap.errors import MalformedMessageError, MechanismUnavailableError, NegotiationError
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, negotiation
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS, available
from saslwrap.mechanisms.digest_md5.context import maximum_message
from saslwrap.mechanisms.digest_md5.negotiation import (
    Protection,
    allowed,
    check_maxbuf,
    choose,
    offer,
)
from saslwrap.properties import CIPHER_NAMES, QOP, SecurityProperties

QOPS = ("auth", "auth-int", "auth-conf")
BLOCK = ("3des", "des")
STREAM = ("rc4", "rc4-56", "rc4-40")

# protocol.md has these as exact: maxbuf, then the largest plaintext of int and rc4, and of blocks
MAXIMA = [
    (17, 1, None),
    (21, 5, None),
    (22, 6, 5),
    (30, 14, 13),
    (64, 48, 45),
    (1024, 1008, 1005),
    (4096, 4080, 4077),
    (65535, 65519, 65517),
    (65536, 65520, 65517),
    (16777215, 16777199, 16777197),
]


def properties(**changes: Any) -> SecurityProperties:
    """Allow everything, but for what is changed."""
    arguments: dict[str, Any] = {"min_ssf": 0, "ciphers": CIPHER_NAMES}
    return SecurityProperties(**arguments | changes)


def named(protections: list[Protection]) -> list[str]:
    return [it.cipher.name if it.cipher else str(it.qop) for it in protections]


def chosen(
    policy: SecurityProperties,
    *,
    qops: tuple[str, ...] = QOPS,
    ciphers: tuple[str, ...] = CIPHER_NAMES,
    maxbuf: int = 65536,
    external_ssf: int = 0,
) -> str:
    protection = choose(policy, external_ssf, qops=qops, ciphers=ciphers, maxbuf=maxbuf)
    return named([protection])[0]


@pytest.mark.parametrize(
    ("cipher", "ssf"), [("rc4", 128), ("3des", 112), ("rc4-56", 56), ("des", 55), ("rc4-40", 40)]
)
def test_strength_is_counted_as_cyrus_does(cipher: str, ssf: int) -> None:
    assert Protection(QOP.AUTH_CONF, CIPHERS[cipher]).ssf == ssf
    assert Protection(QOP.AUTH_INT).ssf == 1
    assert Protection(QOP.AUTH).ssf == 0


def test_a_protection_names_itself() -> None:
    assert str(Protection(QOP.AUTH_INT)) == "auth-int"
    assert str(Protection(QOP.AUTH_CONF, CIPHERS["rc4-56"])) == "auth-conf (rc4-56)"


@pytest.mark.parametrize(
    ("policy", "protections"),
    [
        (SecurityProperties(), ["rc4", "3des"]),
        (SecurityProperties(ciphers=("3des", "rc4")), ["3des", "rc4"]),
        (SecurityProperties(ciphers=CIPHER_NAMES), ["rc4", "3des"]),
        (SecurityProperties(min_ssf=113), ["rc4"]),
        (SecurityProperties(min_ssf=56, ciphers=CIPHER_NAMES), ["rc4", "3des", "rc4-56"]),
        (SecurityProperties(min_ssf=55, ciphers=("des", "rc4-40")), ["des"]),
        (SecurityProperties(min_ssf=1), ["rc4", "3des", "auth-int"]),
        (SecurityProperties(min_ssf=1, max_ssf=1), ["auth-int"]),
        (SecurityProperties(min_ssf=0, ciphers=()), ["auth-int", "auth"]),
        (SecurityProperties(min_ssf=0, max_ssf=0), ["auth"]),
        (SecurityProperties(min_ssf=0, max_ssf=112), ["3des", "auth-int", "auth"]),
        (SecurityProperties(min_ssf=129), []),
        (SecurityProperties(ciphers=()), []),
        (SecurityProperties(require_layer=True, min_ssf=0, ciphers=()), ["auth-int"]),
    ],
)
def test_the_policy_allows_what_it_says_in_its_order(
    policy: SecurityProperties, protections: list[str]
) -> None:
    assert named(allowed(policy)) == protections


@pytest.mark.parametrize(
    ("require_layer", "protections"),
    [(None, ["auth"]), (False, ["auth"]), (True, ["rc4", "3des"])],
)
def test_tls_below_leaves_a_layer_to_those_who_insist(
    require_layer: bool | None, protections: list[str]
) -> None:
    policy = SecurityProperties(require_layer=require_layer)
    assert named(allowed(policy, external_ssf=256)) == protections


def test_tls_below_that_is_too_weak_changes_nothing() -> None:
    assert named(allowed(SecurityProperties(), external_ssf=56)) == ["rc4", "3des"]


def test_a_server_offers_what_it_allows() -> None:
    assert named(offer(properties(), 0)) == [*CIPHER_NAMES, "auth-int", "auth"]


def test_a_server_without_anything_to_offer_says_so() -> None:
    with pytest.raises(NegotiationError, match=r"SSF of 112 to 256 with ciphers none$"):
        offer(SecurityProperties(ciphers=()), 0)


@pytest.mark.parametrize("order", [*itertools.permutations(("rc4", "3des", "des"))])
def test_the_clients_order_decides(order: tuple[str, ...]) -> None:
    assert chosen(properties(ciphers=order)) == order[0]
    assert chosen(properties(ciphers=order), ciphers=order[1:]) == order[1]


@pytest.mark.parametrize(
    ("qops", "ciphers", "protection"),
    [
        (QOPS, CIPHER_NAMES, "rc4"),
        (QOPS, ("rc4-40", "des"), "des"),
        (QOPS, (), "auth-int"),
        (QOPS, ("aes", "rc4-128"), "auth-int"),
        (("auth", "auth-int"), CIPHER_NAMES, "auth-int"),
        (("auth",), CIPHER_NAMES, "auth"),
        (("auth-conf",), ("aes", "3des"), "3des"),
        (("token", "auth-int"), (), "auth-int"),
    ],
)
def test_the_strongest_that_is_offered_and_allowed_is_chosen(
    qops: tuple[str, ...], ciphers: tuple[str, ...], protection: str
) -> None:
    assert chosen(properties(), qops=qops, ciphers=ciphers) == protection


@pytest.mark.parametrize(
    ("policy", "qops", "ciphers"),
    [
        (SecurityProperties(min_ssf=1), ("auth",), CIPHER_NAMES),
        (SecurityProperties(), ("auth", "auth-int"), CIPHER_NAMES),
        (SecurityProperties(), QOPS, ("rc4-40", "rc4-56", "des")),
        (SecurityProperties(), QOPS, ()),
        (SecurityProperties(min_ssf=113), QOPS, ("3des",)),
        (SecurityProperties(max_ssf=112), QOPS, ("rc4",)),
        (SecurityProperties(ciphers=("3des",)), QOPS, ("rc4",)),
        (SecurityProperties(min_ssf=0, max_ssf=0), ("auth-conf",), ("rc4",)),
        (SecurityProperties(require_layer=True), ("auth",), ()),
    ],
)
def test_nothing_below_the_policy_is_ever_chosen(
    policy: SecurityProperties, qops: tuple[str, ...], ciphers: tuple[str, ...]
) -> None:
    """The guard: the offer is not covered by any hash, so the minimum is the only defence."""
    with pytest.raises(NegotiationError):
        chosen(policy, qops=qops, ciphers=ciphers)


def test_a_refusal_names_offer_and_wish() -> None:
    with pytest.raises(NegotiationError) as caught:
        chosen(SecurityProperties(require_layer=True), qops=("auth",), ciphers=("des",))
    text = str(caught.value)
    assert text.startswith("the server offers auth with des; wanted: an SSF of 112 to 256 with")
    assert "rc4, 3des, a layer in any case" in text


def test_a_refusal_is_one_printable_line_whatever_the_server_offers() -> None:
    offered = "auth\t" * 50
    with pytest.raises(NegotiationError) as caught:
        choose(SecurityProperties(), 0, qops=["auth", offered], ciphers=[offered], maxbuf=65536)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_refusal_of_no_layer_names_it() -> None:
    with pytest.raises(NegotiationError, match=r"offers auth-conf; wanted: .*, no layer"):
        choose(
            SecurityProperties(require_layer=False),
            256,
            qops=("auth-conf",),
            ciphers=(),
            maxbuf=65536,
        )


# ---------------------------------------------------------------- maxbuf


@pytest.mark.parametrize(("maxbuf", "stream", "block"), MAXIMA)
def test_the_largest_message_is_exact(maxbuf: int, stream: int, block: int | None) -> None:
    assert maximum_message(maxbuf, 1) == stream
    assert (maximum_message(maxbuf, 8) if block else None) == block
    assert (maximum_message(maxbuf, 8) > 0) == (block is not None)


@pytest.mark.parametrize("cipher", CIPHER_NAMES)
def test_a_maxbuf_fits_where_it_carries_an_octet(cipher: str) -> None:
    protection = Protection(QOP.AUTH_CONF, CIPHERS[cipher])
    least = 22 if cipher in BLOCK else 17
    assert not protection.fits(least - 1)
    assert protection.fits(least)


def test_without_a_layer_any_maxbuf_fits() -> None:
    assert Protection(QOP.AUTH).fits(0)
    assert not Protection(QOP.AUTH_INT).fits(16)
    assert Protection(QOP.AUTH_INT).fits(17)


@pytest.mark.parametrize("maxbuf", [17, 65536, 16777215])
def test_a_maxbuf_in_its_range_is_taken(maxbuf: int) -> None:
    assert check_maxbuf(maxbuf) == maxbuf


@pytest.mark.parametrize("maxbuf", [0, 16, 16777216, 4294967296])
def test_a_maxbuf_out_of_its_range_is_refused(maxbuf: int) -> None:
    with pytest.raises(MalformedMessageError, match=r"maxbuf is not in 17\.\.16777215"):
        check_maxbuf(maxbuf)
    with pytest.raises(MalformedMessageError):
        chosen(properties(), maxbuf=maxbuf)


@pytest.mark.parametrize("maxbuf", [0, 16, 16777216])
def test_a_maxbuf_out_of_its_range_does_not_matter_without_a_layer(maxbuf: int) -> None:
    assert chosen(properties(), qops=("auth",), maxbuf=maxbuf) == "auth"
    assert chosen(SecurityProperties(), maxbuf=maxbuf, external_ssf=256) == "auth"


@pytest.mark.parametrize("maxbuf", range(17, 22))
@pytest.mark.parametrize("cipher", BLOCK)
def test_a_block_cipher_is_passed_over_where_it_carries_nothing(cipher: str, maxbuf: int) -> None:
    policy = properties(ciphers=(cipher, "rc4"))
    assert chosen(policy, maxbuf=maxbuf) == "rc4"
    with pytest.raises(NegotiationError, match=f"maxbuf of {maxbuf} octets is too small"):
        chosen(properties(min_ssf=2, ciphers=(cipher,)), maxbuf=maxbuf)


@pytest.mark.parametrize("cipher", BLOCK)
def test_a_block_cipher_is_chosen_from_22_octets_on(cipher: str) -> None:
    assert chosen(properties(ciphers=(cipher, "rc4")), maxbuf=22) == cipher


def test_it_is_said_whose_maxbuf_is_too_small() -> None:
    ours = properties(min_ssf=2, ciphers=("3des",), max_buffer=21)
    text = r"our max_buffer of 21 octets is too small for auth-conf \(3des\)"
    with pytest.raises(NegotiationError, match=f"^{text}"):
        offer(ours, 0)
    with pytest.raises(NegotiationError, match=f"^{text}"):
        chosen(ours)
    with pytest.raises(NegotiationError, match=r"^the server's maxbuf of 20 octets is too small"):
        chosen(properties(min_ssf=2, ciphers=("3des",)), maxbuf=20)


# ---------------------------------------------------------------- what OpenSSL lacks


@pytest.fixture
def without_rc4(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL without its legacy provider."""

    def fake(names: list[str]) -> list[Any]:
        return [spec for spec in available(names) if spec.name not in STREAM]

    monkeypatch.setattr(negotiation, "available", fake)


@pytest.mark.usefixtures("without_rc4")
def test_a_cipher_that_openssl_lacks_is_passed_over() -> None:
    assert chosen(SecurityProperties()) == "3des"
    assert named(offer(SecurityProperties(), 0)) == ["3des"]


@pytest.mark.usefixtures("without_rc4")
def test_a_cipher_that_alone_would_do_is_reported_as_missing() -> None:
    policy = SecurityProperties(ciphers=("rc4",))
    text = r"lacks the cipher for auth-conf \(rc4\).*CRYPTOGRAPHY_OPENSSL_NO_LEGACY"
    with pytest.raises(MechanismUnavailableError, match=text):
        chosen(policy)
    with pytest.raises(MechanismUnavailableError, match=text):
        offer(policy, 0)


@pytest.mark.usefixtures("without_rc4")
def test_what_openssl_lacks_is_never_made_up_for_below_the_policy() -> None:
    with pytest.raises(MechanismUnavailableError):
        chosen(SecurityProperties(), ciphers=("rc4", "des"))


@pytest.mark.usefixtures("without_rc4")
def test_the_reach_of_the_mechanism_is_what_works() -> None:
    assert DigestMD5Client.best_ssf(SecurityProperties()) == 112
    assert DigestMD5Client.best_ssf(SecurityProperties(ciphers=("rc4",))) is None


@pytest.mark.parametrize(
    ("policy", "external_ssf", "best"),
    [
        (SecurityProperties(), 0, 128),
        (SecurityProperties(max_ssf=112), 0, 112),
        (SecurityProperties(min_ssf=1, ciphers=()), 0, 1),
        (SecurityProperties(), 256, 0),
        (SecurityProperties(require_layer=True), 256, 128),
        (SecurityProperties(min_ssf=129), 0, None),
        (SecurityProperties(require_layer=False), 0, None),
        (SecurityProperties(ciphers=("3des",), max_buffer=22), 0, 112),
        (SecurityProperties(ciphers=("3des",), max_buffer=21), 0, None),
    ],
)
def test_the_reach_of_the_mechanism_follows_the_policy(
    policy: SecurityProperties, external_ssf: int, best: int | None
) -> None:
    assert DigestMD5Client.best_ssf(policy, external_ssf) == best


def test_without_a_word_there_is_no_channel_that_the_reach_could_lean_on() -> None:
    assert DigestMD5Client.best_ssf(SecurityProperties(min_ssf=1)) == 128
