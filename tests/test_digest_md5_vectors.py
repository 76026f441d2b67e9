from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

import pytest

from saslwrap.context import SecurityContext
from saslwrap.errors import AuthenticationError, MalformedMessageError, UsageError
from saslwrap.framing import LENGTH_OCTETS, FrameDecoder
from saslwrap.layer import SecurityLayer
from saslwrap.mechanisms.digest_md5 import DigestMD5Client, DigestMD5Server
from saslwrap.mechanisms.digest_md5.ciphers import CIPHERS, expand_des_key
from saslwrap.mechanisms.digest_md5.context import make_context
from saslwrap.mechanisms.digest_md5.credentials import all_urps, urp
from saslwrap.mechanisms.digest_md5.directives import parse_directives
from saslwrap.mechanisms.digest_md5.keys import DigestParameters, integrity_keys, sealing_keys
from saslwrap.properties import MAX_MAXBUF, SecurityProperties
from saslwrap.testing.pairs import PROTECTIONS, properties_for
from tests.vectors import FOLDER, load, names
from tests.vectors.reference import Login

VECTORS = load("digest-md5.json")
EXTRA = load("digest-md5-extra.json")
CASES: dict[str, Any] = {case["id"]: case for case in VECTORS["cases"]}
CLIENT_SAYS = [bytes.fromhex(message) for message in VECTORS["c2s"]]
SERVER_SAYS = [bytes.fromhex(message) for message in VECTORS["s2c"]]
QOPS = ("auth", "auth-int", "auth-conf")

each_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
each_layer = pytest.mark.parametrize("protection", PROTECTIONS)
each_arrival = pytest.mark.parametrize("size", [None, 1], ids=["whole", "octet by octet"])


def qop_of(protection: str) -> str:
    return protection if protection in QOPS else "auth-conf"


def login_of(case: Any, protection: str) -> Login:
    """The reference's view of a case; the files' numbers are compared, never this one's."""
    return Login(
        username=case["user"],
        realm=case["realm"],
        password=case["pw"],
        nonce=case["nonce"],
        cnonce=case["cnonce"],
        qop=qop_of(protection),
        cipher=protection if protection in CIPHERS else None,
        uri=case["uri"],
        authzid=case["authzid"],
    )


def client_of(case: Any, protection: str, **arguments: Any) -> DigestMD5Client:
    service, _, host = case["uri"].partition("/")
    return DigestMD5Client(
        case["user"],
        case["pw"],
        service=service,
        host=host,
        authzid=case["authzid"],
        properties=properties_for(protection),
        generate_cnonce=lambda: str(case["cnonce"]),
        **arguments,
    )


def server_of(case: Any, protection: str) -> DigestMD5Server:
    service, _, host = case["uri"].partition("/")
    users = {(case["user"], case["realm"]): case["pw"]}
    return DigestMD5Server(
        lambda username, realm: users.get((username, realm)),
        service=service,
        host=host,
        realms=[case["realm"]],
        properties=properties_for(protection),
        generate_nonce=lambda: str(case["nonce"]),
    )


def logged_in_client(case: Any, protection: str) -> DigestMD5Client:
    """A client whose server is the file: challenge in, response compared, rspauth in."""
    client, qop = client_of(case, protection), qop_of(protection)
    response = client.step(login_of(case, protection).challenge())
    assert response is not None
    assert parse_directives(response, 4096).one("response") == case["resp"][qop].encode()
    assert client.step(f"rspauth={case['rspauth'][qop]}".encode()) is None
    return client


def logged_in_server(case: Any, protection: str) -> DigestMD5Server:
    """A server whose client is the file: response in, rspauth compared."""
    server, qop = server_of(case, protection), qop_of(protection)
    server.step(None)
    message = login_of(case, protection).message(response=case["resp"][qop])
    assert server.step(message) == f"rspauth={case['rspauth'][qop]}".encode()
    return server


def context_of(mechanism: DigestMD5Client | DigestMD5Server) -> SecurityContext:
    assert mechanism.complete
    assert mechanism.context is not None
    return mechanism.context


def layer_of(mechanism: DigestMD5Client | DigestMD5Server) -> SecurityLayer:
    return SecurityLayer(context_of(mechanism))


def sealed(layer: SecurityLayer, messages: Iterable[bytes]) -> list[str]:
    return [b"".join(layer.send_data(message)).hex() for message in messages]


def opened(layer: SecurityLayer, frames: Iterable[str], size: int | None) -> list[bytes]:
    wire = bytes.fromhex("".join(frames))
    messages: list[bytes] = []
    for start in range(0, len(wire), size or len(wire)):
        layer.receive_data(wire[start : start + (size or len(wire))])
        messages += iter(layer.read, b"")
    return messages


@each_case
@pytest.mark.parametrize("qop", QOPS)
def test_client_computes_the_response_and_takes_the_rspauth(case: Any, qop: str) -> None:
    assert logged_in_client(case, "rc4" if qop == "auth-conf" else qop).complete


@each_case
@pytest.mark.parametrize("qop", QOPS)
def test_server_takes_the_response_and_computes_the_rspauth(case: Any, qop: str) -> None:
    server = logged_in_server(case, "rc4" if qop == "auth-conf" else qop)
    assert (server.authcid, server.realm) == (case["user"], case["realm"])
    assert server.authzid == case["authzid"]


@each_case
@each_layer
def test_client_seals_the_frames(case: Any, protection: str) -> None:
    layer = layer_of(logged_in_client(case, protection))
    assert sealed(layer, CLIENT_SAYS) == case["layers"][protection]["c2s"]


@each_case
@each_layer
def test_server_seals_the_frames(case: Any, protection: str) -> None:
    layer = layer_of(logged_in_server(case, protection))
    assert sealed(layer, SERVER_SAYS) == case["layers"][protection]["s2c"]


@each_case
@each_layer
@each_arrival
def test_client_opens_the_frames(case: Any, protection: str, size: int | None) -> None:
    layer = layer_of(logged_in_client(case, protection))
    assert opened(layer, case["layers"][protection]["s2c"], size) == SERVER_SAYS


@each_case
@each_layer
@each_arrival
def test_server_opens_the_frames(case: Any, protection: str, size: int | None) -> None:
    layer = layer_of(logged_in_server(case, protection))
    assert opened(layer, case["layers"][protection]["c2s"], size) == CLIENT_SAYS


@each_case
def test_the_hashes_in_between_agree(case: Any) -> None:
    secret = urp(case["user"], case["realm"], case["pw"], "auto")
    parameters = DigestParameters(
        nonce=case["nonce"].encode(),
        cnonce=case["cnonce"].encode(),
        qop=b"auth",
        digest_uri=case["uri"].encode(),
        authzid=case["authzid"].encode() if case["authzid"] else None,
    )
    assert secret.hex() == case["urp"]
    assert parameters.session_key(secret).hex() == case["HA1"]


@each_case
@each_layer
def test_the_keys_agree(case: Any, protection: str) -> None:
    root, layer = bytes.fromhex(case["HA1"]), case["layers"][protection]
    integrity = integrity_keys(root)
    assert integrity.client_to_server.hex() == layer["Kic"]
    assert integrity.server_to_client.hex() == layer["Kis"]
    if cipher := CIPHERS.get(protection):
        sealing = sealing_keys(root, cipher.key_octets)
        assert sealing.client_to_server.hex() == layer["Kcc"]
        assert sealing.server_to_client.hex() == layer["Kcs"]


BLOCK_KEYS = [
    (case, protection, key)
    for case, protection, key in product(CASES.values(), ("des", "3des"), ("Kcc", "Kcs"))
]


@pytest.mark.parametrize(
    ("case", "protection", "key"), BLOCK_KEYS, ids=lambda value: str(value)[:4].strip("{")
)
def test_the_des_keys_agree(case: Any, protection: str, key: str) -> None:
    layer = case["layers"][protection]
    octets = bytes.fromhex(layer[key])
    assert expand_des_key(octets[:7]).hex() == layer[f"{key}.k1"]
    assert octets[8:].hex() == layer[f"{key}.iv"]
    if protection == "3des":
        assert expand_des_key(octets[7:14]).hex() == layer[f"{key}.k2"]


@each_case
@each_layer
def test_the_reference_agrees_too(case: Any, protection: str) -> None:
    """The guard: what the other tests take for a peer says what the files say."""
    login, qop = login_of(case, protection), qop_of(protection)
    assert login.urp.hex() == case["urp"]
    assert login.session_key.hex() == case["HA1"]
    assert (login.response, login.rspauth) == (case["resp"][qop], case["rspauth"][qop])
    vector = case["layers"][protection]
    assert {name: key.hex() for name, key in login.keys.items() if name in vector} == {
        name: vector[name] for name in login.keys if name in vector
    }


# ---------------------------------------------------------------- RFC 2831 section 4

each_example = pytest.mark.parametrize("example", EXTRA["rfc2831"], ids=lambda it: it["service"])


@each_example
def test_client_says_what_the_rfc_says(example: Any) -> None:
    theirs = parse_directives(example["response"].encode(), 4096)
    cnonce = theirs.required("cnonce").decode()
    client = DigestMD5Client(
        example["user"],
        example["pw"],
        service=example["service"],
        host=example["host"],
        properties=properties_for("auth"),
        generate_cnonce=lambda: cnonce,
    )
    response = client.step(example["challenge"].encode())
    assert response is not None
    assert parse_directives(response, 4096) == theirs
    assert client.step(example["rspauth"].encode()) is None
    assert client.context is None


@each_example
def test_server_says_what_the_rfc_says(example: Any) -> None:
    theirs = parse_directives(example["challenge"].encode(), 2048)
    server = DigestMD5Server(
        lambda username, realm: example["pw"] if username == example["user"] else None,
        service=example["service"],
        host=example["host"],
        realms=[value.decode() for value in theirs.all("realm")],
        properties=properties_for("auth"),
        generate_nonce=theirs.required("nonce").decode,
    )
    challenge = server.step(None)
    assert challenge is not None
    ours = parse_directives(challenge, 2048)
    assert {name: ours[name] for name in theirs} == theirs
    assert set(ours) - set(theirs) == {"maxbuf"}
    assert server.step(example["response"].encode()) == example["rspauth"].encode()


@each_example
def test_the_hashes_behind_the_rfc_agree(example: Any) -> None:
    theirs = parse_directives(example["response"].encode(), 4096)
    secret = urp(example["user"], example["host"], example["pw"], "auto")
    assert secret.hex() == example["urp"]
    parameters = DigestParameters(
        nonce=theirs.required("nonce"),
        cnonce=theirs.required("cnonce"),
        qop=theirs.required("qop"),
        digest_uri=theirs.required("digest-uri"),
    )
    assert parameters.session_key(secret).hex() == example["HA1"]


# ---------------------------------------------------------------- extras


@pytest.mark.parametrize("protection", EXTRA["empty_message"]["c2s"])
def test_an_empty_message_is_sealed_and_opened(protection: str) -> None:
    frame = bytes.fromhex(EXTRA["empty_message"]["c2s"][protection])
    case = CASES[EXTRA["empty_message"]["case"]]
    client = context_of(logged_in_client(case, protection))
    server = context_of(logged_in_server(case, protection))
    assert client.seal(b"") == frame[LENGTH_OCTETS:]
    assert server.unseal(frame[LENGTH_OCTETS:]) == b""


@pytest.mark.parametrize("protection", EXTRA["empty_message"]["c2s"])
def test_a_frame_without_plaintext_is_read_as_nothing(protection: str) -> None:
    case = CASES[EXTRA["empty_message"]["case"]]
    layer = layer_of(logged_in_server(case, protection))
    assert opened(layer, [EXTRA["empty_message"]["c2s"][protection]], None) == []
    assert not layer.context.failed


def context_at(number: int, *, is_client: bool) -> Any:
    context: Any = make_context(
        bytes.fromhex(CASES[EXTRA["sequence_wrap"]["case"]]["HA1"]),
        None,
        is_client=is_client,
        local_maxbuf=65536,
        peer_maxbuf=65536,
    )
    context._sealer._number = context._unsealer._number = number
    return context


def test_integrity_starts_its_numbers_anew_after_the_last() -> None:
    vector = EXTRA["sequence_wrap"]
    message = bytes.fromhex(vector["message"])
    tokens = [bytes.fromhex(vector[which])[LENGTH_OCTETS:] for which in ("last", "first")]
    client = context_at(0xFFFFFFFF, is_client=True)
    assert [client.seal(message), client.seal(message)] == tokens
    server = context_at(0xFFFFFFFF, is_client=False)
    assert [server.unseal(token) for token in tokens] == [message, message]


@pytest.mark.parametrize("encoding", ["utf8", "gsasl"])
def test_client_hashes_in_the_asked_way(encoding: Any) -> None:
    case, vector = CASES[EXTRA["hash_encodings"]["case"]], EXTRA["hash_encodings"][encoding]
    client = client_of(case, "auth", hash_encoding=encoding)
    response = client.step(login_of(case, "auth").challenge())
    assert response is not None
    assert parse_directives(response, 4096).one("response") == vector["response"].encode()


@pytest.mark.parametrize("encoding", ["utf8", "gsasl"])
def test_server_takes_the_other_ways_of_hashing(encoding: str) -> None:
    case, vector = CASES[EXTRA["hash_encodings"]["case"]], EXTRA["hash_encodings"][encoding]
    server = server_of(case, "auth")
    server.step(None)
    assert server.step(login_of(case, "auth").message(response=vector["response"]))
    assert server.complete


@pytest.mark.parametrize("encoding", ["utf8", "gsasl"])
def test_the_hashes_of_the_other_ways_agree(encoding: Any) -> None:
    case, vector = CASES[EXTRA["hash_encodings"]["case"]], EXTRA["hash_encodings"][encoding]
    secret = urp(case["user"], case["realm"], case["pw"], encoding)
    assert secret.hex() == vector["urp"]
    assert secret in all_urps(case["user"], case["realm"], case["pw"])
    key = b":".join((secret, *(case[n].encode() for n in ("nonce", "cnonce", "authzid"))))
    assert hashlib.md5(key).hexdigest() == vector["HA1"]


def test_server_refuses_a_right_response_with_another_nonce_count() -> None:
    vector = EXTRA["subsequent"]
    login = login_of(CASES[vector["case"]], "auth")
    server = server_of(CASES[vector["case"]], "auth")
    server.step(None)
    with pytest.raises(AuthenticationError):
        server.step(login.message(nc=vector["nc"], response=vector["response"]))
    assert not server.complete


def with_empty_authzid() -> Login:
    case = CASES[EXTRA["empty_authzid"]["case"]] | {"authzid": ""}
    login = login_of(case, "auth")
    assert login.session_key.hex() == EXTRA["empty_authzid"]["HA1"]
    return login


def test_client_never_hashes_an_empty_authzid() -> None:
    case = CASES[EXTRA["empty_authzid"]["case"]]
    with pytest.raises(UsageError, match="authzid is empty"):
        client_of(case | {"authzid": ""}, "auth")


def test_server_refuses_an_empty_authzid_with_its_right_response() -> None:
    server = server_of(CASES[EXTRA["empty_authzid"]["case"]], "auth")
    server.step(None)
    with pytest.raises(MalformedMessageError, match="authzid"):
        server.step(with_empty_authzid().message())


# ---------------------------------------------------------------- captures


def is_digest(name: str) -> bool:
    return bool(load(name)["mech"] == "DIGEST-MD5")


CAPTURES = [name for name in names("captures/*.json") if is_digest(name)]

each_capture = pytest.mark.parametrize("name", CAPTURES, ids=lambda name: name[9:-5])


def elements(ber: bytes) -> Iterator[tuple[int, bytes]]:
    """Take BER elements of definite length apart: tag and content."""
    while ber:
        tag, length, start = ber[0], ber[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(ber[2:start], "big")
        yield tag, ber[start : start + length]
        ber = ber[start + length :]


def primitives(ber: bytes) -> Iterator[bytes]:
    for tag, content in elements(ber):
        if tag & 0x20:
            yield from primitives(content)
        else:
            yield content


def login_message(write: bytes) -> bytes | None:
    """The mechanism's message in one write, bare or inside LDAP; None if it holds none."""
    candidates = primitives(write) if write[:1] == b"\x30" else iter([write])
    signs = (b"nonce=", b"rspauth=")
    return next((it for it in candidates if any(sign in it for sign in signs)), None)


def tokens_of(writes: Iterable[bytes], *, framed: bool) -> list[bytes]:
    if not framed:
        return list(writes)
    decoder, tokens = FrameDecoder(MAX_MAXBUF), []
    decoder.receive_data(b"".join(writes))
    while (token := decoder.next_token()) is not None:
        tokens.append(bytes(token))
        decoder.consume()
    decoder.receive_eof()
    assert decoder.at_eof
    return tokens


class Side(NamedTuple):
    """What one side of a capture wrote: the login's messages, then tokens."""

    messages: list[bytes]
    tokens: list[bytes]


class Capture(NamedTuple):
    username: str
    password: str
    protection: str
    client: Side
    server: Side

    @classmethod
    def load(cls, name: str) -> Capture:
        data = load(name)
        sides = [
            cls._side([bytes.fromhex(write) for write in data[direction]])
            for direction in ("client_to_server", "server_to_client")
        ]
        protection = data["cipher"] or data["qop"]
        return cls(data["username"], data["password"], protection, *sides)

    @staticmethod
    def _side(writes: list[bytes]) -> Side:
        login = [place for place, write in enumerate(writes) if login_message(write)]
        messages = [message for write in writes if (message := login_message(write))]
        rest = writes[login[-1] + 1 :]
        framed = int.from_bytes(rest[0][:LENGTH_OCTETS], "big") <= len(b"".join(rest))
        return Side(messages, tokens_of(rest, framed=framed))

    @property
    def properties(self) -> SecurityProperties:
        return properties_for(self.protection, max_buffer=MAX_MAXBUF)

    def client_said(self, directive: str) -> str:
        return parse_directives(self.client.messages[0], 4096).required(directive).decode()

    def replay_client(self) -> DigestMD5Client:
        """Our client in the place of theirs."""
        challenge, rspauth = self.server.messages
        service, host, *serv_name = self.client_said("digest-uri").split("/")
        client = DigestMD5Client(
            self.username,
            self.password,
            service=service,
            host=host,
            serv_name=serv_name[0] if serv_name else None,
            properties=self.properties,
            generate_cnonce=lambda: self.client_said("cnonce"),
        )
        ours = client.step(challenge)
        assert ours is not None
        theirs = self.client_said("response").encode()
        assert parse_directives(ours, 4096).one("response") == theirs
        assert client.step(rspauth) is None
        return client

    def replay_server(self) -> DigestMD5Server:
        """Our server in the place of theirs."""
        challenge = parse_directives(self.server.messages[0], 2048)
        service, host, *_ = self.client_said("digest-uri").split("/")
        server = DigestMD5Server(
            lambda username, _: self.password if username == self.username else None,
            service=service,
            host=host,
            realms=[realm.decode() for realm in challenge.all("realm")],
            properties=self.properties,
            generate_nonce=challenge.required("nonce").decode,
        )
        server.step(None)
        assert server.step(self.client.messages[0]) == self.server.messages[1]
        return server


def test_there_are_captures() -> None:
    assert len(CAPTURES) >= 4


@each_capture
def test_our_client_replays_a_captured_one(name: str) -> None:
    capture = Capture.load(name)
    server = context_of(capture.replay_server())
    plaintexts = [server.unseal(token) for token in capture.client.tokens]
    client = context_of(capture.replay_client())
    assert [client.seal(plaintext) for plaintext in plaintexts] == capture.client.tokens
    assert any(plaintexts)


@each_capture
def test_our_server_replays_a_captured_one(name: str) -> None:
    capture = Capture.load(name)
    client = context_of(capture.replay_client())
    plaintexts = [client.unseal(token) for token in capture.server.tokens]
    server = context_of(capture.replay_server())
    assert [server.seal(plaintext) for plaintext in plaintexts] == capture.server.tokens
    assert any(plaintexts)


@each_capture
@each_arrival
def test_captured_frames_open_in_any_segmentation(name: str, size: int | None) -> None:
    capture = Capture.load(name)
    for layer, tokens in [
        (layer_of(capture.replay_client()), capture.server.tokens),
        (layer_of(capture.replay_server()), capture.client.tokens),
    ]:
        frames = [(len(token).to_bytes(LENGTH_OCTETS, "big") + token).hex() for token in tokens]
        assert len(opened(layer, frames, size)) == len(tokens)


@pytest.mark.parametrize("name", [name for name in CAPTURES if "/slapd-" in name])
def test_a_captured_directory_speaks_ldap_inside_the_layer(name: str) -> None:
    capture = Capture.load(name)
    client = context_of(capture.replay_client())
    stream = b"".join(client.unseal(token) for token in capture.server.tokens)
    assert {tag for tag, _ in elements(stream)} == {0x30}


def test_each_file_is_registered() -> None:
    register = (FOLDER / "README.md").read_text("utf-8")
    assert [name for name in names("**/*.json") if name.split("/")[-1] not in register] == []
