"""No secret stays where it is not needed, and none shows: not in a text, not in a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from saslwrap.errors import MechanismUnavailableError, SASLError, UsageError
from saslwrap.mechanism import Mechanism
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Secret, DigestMD5Server
from saslwrap.mechanisms.digest_md5.keys import KeyPair, integrity_keys, sealing_keys
from saslwrap.properties import QOP
from saslwrap.testing.checks.leaks import kept_by, shows
from tests.vectors.reference import Login

LOGIN = Login()


def make_client(**changes: Any) -> DigestMD5Client:
    arguments: dict[str, Any] = {
        "username": LOGIN.username,
        "password": LOGIN.password,
        "service": "ldap",
        "host": "localhost",
        "generate_cnonce": lambda: LOGIN.cnonce,
    }
    return DigestMD5Client(**arguments | changes)


def make_server(secret: str | DigestMD5Secret = LOGIN.password) -> DigestMD5Server:
    server = DigestMD5Server(
        lambda *_: secret,
        service="ldap",
        host="localhost",
        realms=["example.com"],
        generate_nonce=lambda: LOGIN.nonce,
    )
    server.step(None)
    return server


def failure(mechanism: Mechanism, *messages: bytes) -> BaseException:
    for message in messages[:-1]:
        mechanism.step(message)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any may show something
        mechanism.step(messages[-1])
    return caught.value


def frames_of(error: BaseException | None) -> Iterator[FrameType]:
    """The package's frames that an error, its cause and its context keep alive."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals.get("__name__", "").startswith("saslwrap."):
                yield trace.tb_frame
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


def shown(error: BaseException) -> str:
    """All that a log with local variables would show of an error; it comes from the package."""
    locals_of = [repr(frame.f_locals) for frame in frames_of(error)]
    assert locals_of
    return "\n".join([str(error), repr(error), repr(vars(error)), *locals_of])


def held(value: object, seen: set[int] | None = None) -> Iterator[object]:
    """What an object of the package holds, through its attributes."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    if not type(value).__module__.startswith("saslwrap."):
        return
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    for name in [*getattr(value, "__dict__", {}), *slots]:
        yield from held(getattr(value, name, None), seen)


def secrets_of(login: Login) -> list[str]:
    octets = [login.urp, login.session_key, *login.keys.values()]
    return [login.password, *map(repr, octets), *(secret.hex() for secret in octets)]


def found(text: str, login: Login = LOGIN) -> list[str]:
    return [secret for secret in secrets_of(login) if secret in text]


@pytest.mark.parametrize(
    "messages",
    [
        [LOGIN.challenge(qop="auth")],
        [LOGIN.challenge(nonce=None)],
        [LOGIN.challenge(maxbuf="0")],
        [LOGIN.challenge(), b"rspauth=x"],
        [LOGIN.challenge(), b"x=y"],
        [LOGIN.challenge(), b""],
        [LOGIN.challenge(), LOGIN.proof, b""],
    ],
)
def test_an_error_of_the_client_shows_no_secret(messages: list[bytes]) -> None:
    assert found(shown(failure(make_client(), *messages))) == []


def test_an_error_over_long_names_shows_no_secret() -> None:
    login = Login(username="a" * 4000)
    error = failure(make_client(username=login.username), LOGIN.challenge())
    assert "would have" in str(error)
    assert found(shown(error), login) == []


def test_an_error_over_a_password_without_charset_shows_none_of_it() -> None:
    error = failure(make_client(password="\u043f\u0430\u0440"), LOGIN.challenge(charset=None))
    assert "the password is beyond ISO 8859-1" in str(error)
    assert "\u043f\u0430\u0440" not in shown(error)


@pytest.mark.parametrize("changes", [{"username": ""}, {"host": ""}, {"hash_encoding": "x"}])
def test_a_refused_argument_does_not_show_the_password(changes: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        make_client(**changes)
    assert found(shown(caught.value)) == []


def test_a_missing_md5_does_not_show_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def md5(data: bytes) -> None:
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr("hashlib.md5", md5)
    with pytest.raises(MechanismUnavailableError) as caught:
        make_client()
    monkeypatch.undo()
    assert found(shown(caught.value)) == []


def test_a_refused_password_is_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        make_client(password="s3cret\udcff")
    assert "s3cret" not in shown(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        Login(password="wrong").message(),
        Login(cipher="des").message(),
        LOGIN.message(nc=None),
        LOGIN.message(maxbuf="0"),
        LOGIN.message(authzid=b'"\xff"'),
        Login(cipher="3des").message(maxbuf="17"),
    ],
)
@pytest.mark.parametrize("secret", [LOGIN.password, DigestMD5Secret(LOGIN.urp)], ids=type)
def test_an_error_of_the_server_shows_no_secret(
    message: bytes, secret: str | DigestMD5Secret
) -> None:
    error = failure(make_server(secret), message)
    assert isinstance(error, SASLError)
    assert found(shown(error)) == []


def test_a_stored_password_that_cannot_be_hashed_is_not_shown() -> None:
    assert "s3cret" not in shown(failure(make_server("s3cret\udcff"), LOGIN.message()))


def test_a_stored_secret_does_not_show_itself() -> None:
    assert repr(DigestMD5Secret(LOGIN.urp)) == "DigestMD5Secret()"


@pytest.mark.parametrize(
    ("digest", "text"),
    [
        ("0123456789s3cret", "^digest is bytes, not str$"),
        (list(b"0123456789s3cret"), "^digest is bytes, not list$"),
        (bytearray(b"0123456789s3cret"), "^digest is bytes, not bytearray$"),
        (b"s3cret", "has 16 octets, not 6; "),
    ],
)
def test_what_is_no_stored_secret_is_refused_and_not_shown(digest: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        DigestMD5Secret(digest)
    assert shows(b"s3cret", *kept_by(caught.value, ("tests.", "_pytest"))) == []


@pytest.mark.parametrize(
    ("username", "realm", "password", "text"),
    [
        (None, "r", "s3cret", "^username is a str, not NoneType$"),
        ("", "r", "s3cret", "^username is empty$"),
        ("a", None, "s3cret", "^realm is a str, not NoneType$"),
        ("a", "r\n", "s3cret", "^realm has control characters"),
        ("a", "r", b"s3cret", "^password is a str, not bytes$"),
        ("a", "r", None, "^password is a str, not NoneType$"),
        ("a", "r", "s3cret\ud800", "^password has lone surrogates"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_not_shown(
    username: Any, realm: Any, password: Any, text: str
) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        DigestMD5Secret.from_password(username, realm, password)
    assert shows(b"s3cret", *kept_by(caught.value, ("tests.", "_pytest"))) == []


def test_a_secret_may_be_of_no_realm() -> None:
    login = Login(realm="")
    stored = DigestMD5Secret.from_password(login.username, "", login.password)
    assert stored == DigestMD5Secret(login.urp)


@pytest.mark.parametrize("derive", [integrity_keys, lambda key: sealing_keys(key, 16)])
def test_keys_do_not_show_themselves(derive: Callable[[bytes], KeyPair]) -> None:
    pair = derive(LOGIN.session_key)
    assert (repr(pair), repr(pair.of(is_client=True))) == ("KeyPair()", "DirectionKeys()")


def test_the_password_is_dropped_once_it_was_used() -> None:
    client = make_client()
    assert LOGIN.password in list(held(client))
    client.step(LOGIN.challenge())
    kept = list(held(client))
    assert [it for it in (LOGIN.password, LOGIN.urp, LOGIN.session_key) if it in kept] == []


def test_the_password_is_dropped_when_the_login_fails() -> None:
    client = make_client()
    failure(client, LOGIN.challenge(qop="auth"))
    assert LOGIN.password not in list(held(client))


def test_the_password_is_dropped_when_the_login_is_interrupted() -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    client = make_client(generate_cnonce=interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.step(LOGIN.challenge())
    assert LOGIN.password not in list(held(client))


def test_the_layer_is_dropped_when_the_server_does_not_prove_itself() -> None:
    client = make_client()
    client.step(LOGIN.challenge())
    assert QOP.AUTH_CONF in list(held(client))
    failure(client, b"rspauth=x")
    assert QOP.AUTH_CONF not in list(held(client))


def test_a_server_keeps_no_secret() -> None:
    server = make_server()
    server.step(LOGIN.message())
    kept = list(held(server))
    assert server.context in kept
    assert [it for it in (LOGIN.password, LOGIN.urp, LOGIN.session_key) if it in kept] == []


def test_no_text_of_a_client_shows_a_secret() -> None:
    client = make_client()
    texts = [repr(client)]
    client.step(LOGIN.challenge())
    client.step(LOGIN.proof)
    texts += [repr(client), str(client), repr(client.context), str(client.context)]
    assert found("\n".join(texts)) == []
    assert texts[:2] == ["<DigestMD5Client incomplete>", "<DigestMD5Client complete>"]


def test_no_text_of_a_server_shows_a_secret() -> None:
    server = make_server()
    texts = [repr(server)]
    server.step(LOGIN.message())
    texts += [repr(server), str(server), repr(server.context), str(server.context)]
    assert found("\n".join(texts)) == []
    assert texts[:2] == ["<DigestMD5Server incomplete>", "<DigestMD5Server complete>"]


@pytest.mark.parametrize("direction", ["seal", "unseal"])
def test_an_error_of_the_context_shows_no_key(direction: str) -> None:
    server = make_server()
    server.step(LOGIN.message())
    assert server.context is not None
    with pytest.raises(SASLError) as caught:
        getattr(server.context, direction)(bytes(65536))
    assert found(shown(caught.value)) == []


def test_an_error_of_unsealing_shows_no_plaintext() -> None:
    """The guard: a token that fails was decrypted, and its plaintext was in a local variable."""
    client, server = make_client(), make_server()
    client.step(LOGIN.challenge())
    client.step(LOGIN.proof)
    server.step(LOGIN.message())
    assert client.context is not None
    assert server.context is not None
    token = bytearray(client.context.seal(b"a plaintext"))
    token[0] ^= 1
    with pytest.raises(SASLError) as caught:
        server.context.unseal(token)
    assert "plaintext" not in shown(caught.value)
