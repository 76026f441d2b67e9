from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saslwrap.errors import UsageError
from saslwrap.properties import QOP, ChannelInfo, SecurityProperties, Sizes, StreamSizes

ALL_CIPHERS = ("rc4", "3des", "rc4-56", "des", "rc4-40")


@pytest.mark.parametrize("token", ["auth", "auth-int", "auth-conf"])
def test_a_qop_equals_its_token(token: str) -> None:
    assert QOP(token) == token
    assert f"{QOP(token)}" == token
    assert hash(QOP(token)) == hash(token)


def test_there_are_three_qops() -> None:
    assert len(QOP) == 3


def test_the_defaults_demand_strong_confidentiality() -> None:
    """The guard: who says nothing gets at least 112 bits, and never a broken cipher."""
    properties = SecurityProperties()
    assert properties.min_ssf == 112
    assert properties.max_ssf == 256
    assert properties.max_buffer == 65536
    assert properties.ciphers == ("rc4", "3des")
    assert properties.require_layer is None


@pytest.mark.parametrize(
    "value",
    [
        SecurityProperties(),
        ChannelInfo(),
        StreamSizes(0, 16, 65520, 4, 1),
        Sizes(4096, 16, 1, 16),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen_and_have_no_room(value: Any) -> None:
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 1)
    assert not hasattr(value, "__dict__")
    assert hash(value) == hash(dataclasses.replace(value))


def test_an_unknown_channel_gives_nothing() -> None:
    assert ChannelInfo() == ChannelInfo(external_ssf=0, tls_server_end_point=None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"min_ssf": -1}, "min_ssf=-1"),
        ({"min_ssf": 257}, "min_ssf=257, max_ssf=256"),
        ({"max_ssf": 111}, "min_ssf=112, max_ssf=111"),
        ({"min_ssf": 0, "max_ssf": -1}, "max_ssf=-1"),
        ({"max_buffer": 16}, "max_buffer is a whole number from 17 to 16777215, not 16"),
        ({"max_buffer": 0}, "from 17 to 16777215, not 0"),
        ({"max_buffer": 16777216}, "from 17 to 16777215, not 16777216"),
        ({"ciphers": ("rc4", "aes")}, r"unknown ciphers \['aes'\]; there are rc4, 3des"),
        ({"ciphers": ("RC4",)}, "unknown ciphers"),
        ({"ciphers": "rc4"}, r"ciphers=\('rc4',\)"),
    ],
)
def test_a_value_out_of_range_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        SecurityProperties(**arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"min_ssf": "128"}, "min_ssf is int, not str"),
        ({"max_ssf": None}, "max_ssf is int, not NoneType"),
        ({"max_buffer": 65536.0}, "max_buffer is a whole number .*, not float"),
        ({"ciphers": None}, "ciphers is a tuple of names, not NoneType"),
        ({"require_layer": 1}, r"require_layer is bool \| None, not int"),
        ({"require_layer": "no"}, r"require_layer is bool \| None, not str"),
    ],
)
def test_a_value_of_another_kind_is_refused(arguments: dict[str, Any], text: str) -> None:
    """The guard: no word in place of True or False is taken for None."""
    with pytest.raises(UsageError, match=text):
        SecurityProperties(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_ssf": 0, "max_ssf": 0},
        {"min_ssf": 256},
        {"min_ssf": 0, "max_ssf": 1},
        {"max_buffer": 17},
        {"max_buffer": 16777215},
        {"ciphers": ALL_CIPHERS},
        {"ciphers": ()},
    ],
)
def test_the_borders_are_accepted(arguments: dict[str, Any]) -> None:
    properties = SecurityProperties(**arguments)
    assert {name: getattr(properties, name) for name in arguments} == arguments


def test_a_list_of_ciphers_becomes_a_tuple() -> None:
    names: Any = ["3des", "rc4"]
    properties = SecurityProperties(ciphers=names)
    names.append("des")
    assert properties.ciphers == ("3des", "rc4")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"external_ssf": None}, "^external_ssf is a whole number from 0, not NoneType$"),
        ({"external_ssf": math.nan}, "^external_ssf is a whole number from 0, not float$"),
        ({"external_ssf": "256"}, "^external_ssf is .*, not str$"),
        ({"external_ssf": True}, "^external_ssf is .*, not bool$"),
        ({"external_ssf": -1}, "^external_ssf is .*, not -1$"),
        ({"tls_server_end_point": "hash"}, "^tls_server_end_point is .*, not str$"),
    ],
)
def test_what_is_no_channel_is_refused_when_given(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ChannelInfo(**arguments)


@pytest.mark.parametrize(
    ("require_layer", "min_ssf", "max_ssf", "external_ssf", "expected"),
    [
        (None, 112, 256, 0, (112, 256)),
        (None, 112, 256, 111, (112, 256)),
        (None, 112, 256, 112, (0, 0)),
        (None, 112, 256, 256, (0, 0)),
        (None, 0, 256, 0, (0, 256)),
        (None, 0, 256, 1, (0, 0)),
        (None, 0, 0, 0, (0, 0)),
        (None, 1, 1, 0, (1, 1)),
        (True, 112, 256, 0, (112, 256)),
        (True, 112, 256, 256, (112, 256)),
        (True, 0, 256, 256, (1, 256)),
        (True, 0, 1, 0, (1, 1)),
        (False, 112, 256, 112, (0, 0)),
        (False, 112, 256, 256, (0, 0)),
        (False, 0, 256, 0, (0, 0)),
        (False, 0, 256, 128, (0, 0)),
    ],
)
def test_the_strength_asked_of_the_layer(
    require_layer: bool | None,
    min_ssf: int,
    max_ssf: int,
    external_ssf: int,
    expected: tuple[int, int],
) -> None:
    properties = SecurityProperties(min_ssf, max_ssf, require_layer=require_layer)
    assert properties.layer_ssf(external_ssf) == expected


def test_without_a_word_there_is_no_channel_below() -> None:
    assert SecurityProperties(min_ssf=1).layer_ssf() == (1, 256)


def test_a_layer_of_no_strength_contradicts() -> None:
    with pytest.raises(UsageError, match="require_layer=True contradicts max_ssf=0"):
        SecurityProperties(0, 0, require_layer=True).layer_ssf()


@pytest.mark.parametrize("external_ssf", [0, 111])
def test_no_layer_over_a_weak_channel_is_refused(external_ssf: int) -> None:
    """The guard: `require_layer=False` never ends in less than `min_ssf`."""
    with pytest.raises(UsageError, match=f"min_ssf=112 to TLS, which gives {external_ssf} here"):
        SecurityProperties(require_layer=False).layer_ssf(external_ssf)


@given(
    bounds=st.tuples(st.integers(0, 256), st.integers(0, 256)).map(sorted),
    require_layer=st.sampled_from([None, True, False]),
    external_ssf=st.integers(0, 300),
)
@settings(deadline=None)
def test_the_channel_or_the_layer_gives_the_least_strength(
    bounds: list[int], require_layer: bool | None, external_ssf: int
) -> None:
    """The guard: whatever the properties, what is asked for together reaches `min_ssf`."""
    properties = SecurityProperties(bounds[0], bounds[1], require_layer=require_layer)
    try:
        least, greatest = properties.layer_ssf(external_ssf)
    except UsageError:
        assert require_layer is not None
        return
    assert 0 <= least <= greatest <= properties.max_ssf
    assert max(least, external_ssf) >= properties.min_ssf
