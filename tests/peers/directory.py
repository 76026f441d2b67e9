"""What stands in the directory that the LDAP servers under test serve, as LDIF."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_DN = "dc=example,dc=com"
PEOPLE_DN = f"ou=people,{BASE_DN}"
LARGE_DN = f"ou=large,{BASE_DN}"
GENERATED_DN = f"ou=generated,{BASE_DN}"

REALM = "example.com"
NEEDLE = "plaintext-needle"
"""Part of every large and every generated value, and of nothing a login sends in clear."""

LARGE_ENTRIES = 8
LARGE_VALUE_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user who can log in to the test servers."""

    username: str
    password: str = field(repr=False)

    @property
    def dn(self) -> str:
        return f"uid={self.username},{PEOPLE_DN}"


ALICE = Credentials("alice", "s3cret-Pa55")
LATIN = Credentials("jürgen", "pässwörd")
"""Beyond ASCII, inside Latin-1: DIGEST-MD5 hashes the name and the password as Latin-1."""
CYRILLIC = Credentials("юлия", "пароль")
"""Outside Latin-1: hashed as UTF-8."""
USERS = (ALICE, LATIN, CYRILLIC)


def large_dn(number: int) -> str:
    return f"cn=large-{number},{LARGE_DN}"


def large_value(number: int) -> str:
    """The `description` of a large entry: `LARGE_VALUE_LENGTH` characters, needles throughout."""
    words = (f"{NEEDLE}-{number}-{position:04}" for position in range(LARGE_VALUE_LENGTH // 16))
    return " ".join(words)[:LARGE_VALUE_LENGTH]


LARGE_VALUES = {large_dn(number): large_value(number) for number in range(LARGE_ENTRIES)}
"""By DN."""


def generated_dn(number: int) -> str:
    return f"cn=entry-{number:05},{GENERATED_DN}"


def generated_value(number: int) -> str:
    """The `description` of a generated entry."""
    return f"{NEEDLE} {number:05}"


def directory_ldif(entries: int = 0) -> Iterator[str]:
    """Every entry, parents first: users, large entries, then `entries` small ones."""
    yield _ldif(BASE_DN, objectClass=("dcObject", "organization"), dc="example", o="Example")
    for unit in ("people", "large", "generated"):
        yield _ldif(f"ou={unit},{BASE_DN}", objectClass="organizationalUnit", ou=unit)
    for user in USERS:
        yield _user(user)
    for number in range(LARGE_ENTRIES):
        yield _device(large_dn(number), large_value(number))
    for number in range(entries):
        yield _device(generated_dn(number), generated_value(number))


def directory_entries(generated: int = 0) -> dict[str, dict[str, list[str | bytes]]]:
    """The same without the users, as `LDAPServer` takes it."""
    entries: dict[str, dict[str, list[str | bytes]]] = {
        BASE_DN: {"objectClass": ["dcObject", "organization"], "dc": ["example"]},
        LARGE_DN: {"objectClass": ["organizationalUnit"], "ou": ["large"]},
        GENERATED_DN: {"objectClass": ["organizationalUnit"], "ou": ["generated"]},
    }
    for number in range(LARGE_ENTRIES):
        description = large_value(number)
        entries[large_dn(number)] = {"cn": [f"large-{number}"], "description": [description]}
    for number in range(generated):
        entries[generated_dn(number)] = {"description": [generated_value(number)]}
    return entries


def _user(user: Credentials) -> str:
    return _ldif(
        user.dn,
        objectClass="inetOrgPerson",
        uid=user.username,
        cn=user.username,
        sn=user.username,
        userPassword=user.password,
    )


def _device(dn: str, description: str) -> str:
    name = dn.partition(",")[0].removeprefix("cn=")
    return _ldif(dn, objectClass="device", cn=name, description=description)


def _ldif(dn: str, **attributes: str | tuple[str, ...]) -> str:
    lines = [_line("dn", dn)]
    for name, values in attributes.items():
        for value in (values,) if isinstance(values, str) else values:
            lines.append(_line(name, value))
    return "\n".join(lines) + "\n\n"


def _line(name: str, value: str) -> str:
    if value.isascii():
        return f"{name}: {value}"
    return f"{name}:: {b64encode(value.encode()).decode('ascii')}"
