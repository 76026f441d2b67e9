"""`python -m tests.peers.libsasl2_peer FOLDER`: libsasl2 plays one case after the other.

It does so as `PeerProcess` says, and keeps its users in a sasldb in FOLDER. A crash of the library
ends it alone.

The options of a case, beside those that `PeerProcess` has:

    min_ssf, max_ssf, maxbuf    its sasl_security_properties_t
    remember        a client goes on from its last login to the same host, if it can
    chunk           how many octets it hands to `sasl_decode` at once
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import sys
from ctypes import byref, c_char_p, c_uint, c_ulong, c_void_p
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.peers.directory import REALM
from tests.peers.libsasl2_library import (
    CB_AUTHNAME,
    CB_GETREALM,
    CB_PASS,
    CB_USER,
    CONTINUE,
    GETREALM,
    GETSECRET,
    GETSIMPLE,
    MAX_OUT_BUFFER,
    OK,
    SERVICE,
    SSF,
    SUCCESS_DATA,
    USERNAME,
    Callbacks,
    Library,
    LibraryError,
    Session,
)
from tests.peers.peer_process import PATIENCE, payload
from tests.peers.plain_exchange import ABORT, BEGIN, MORE, REFUSED, SUCCESS, message
from tests.peers.support import LOOPBACK


class PlayedCase:
    """One connection, from the login to its end."""

    def __init__(self, library: Library, options: dict[str, str], control: socket.socket) -> None:
        self._options = options
        self._control = control
        self._session = Session(library)
        self._dll = library.dll
        self._results: dict[str, object] = {}
        self._buffer = bytearray()
        self._held = bytearray()
        self._sends = options.get("sends", "")
        self._sent = 0
        self._complete = False

    def play(self) -> dict[str, object]:
        try:
            with self._connect() as self._sock:
                self._sock.settimeout(PATIENCE)
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if "port" in self._options:
                    self._log_in()
                else:
                    self._let_log_in()
                self._talk()
        except (LibraryError, OSError, EOFError) as error:
            self._results["error"] = f"{type(error).__name__}: {error}"
        finally:
            self._session.dispose()
        return self._results

    def _connect(self) -> socket.socket:
        if "port" in self._options:
            return socket.create_connection((LOOPBACK, int(self._options["port"])), PATIENCE)
        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(PATIENCE)
            self._control.sendall(encode({"port": listener.getsockname()[1]}))
            return listener.accept()[0]

    def _option(self, name: str) -> bytes:
        return self._options[name].encode()

    def _number(self, name: str, default: int) -> int:
        return int(self._options.get(name, default))

    # the login

    def _log_in(self) -> None:
        session, dll = self._session, self._dll
        self._callbacks = self._client_callbacks()
        entries = self._callbacks.array
        new = dll.sasl_client_new
        session.check(new(SERVICE, self._option("host"), None, None, entries, 0, session.ref))
        self._protect()
        name = c_char_p()
        start = dll.sasl_client_start
        data, length = c_void_p(), c_uint()
        session.check(
            start(session.conn, b"DIGEST-MD5", None, byref(data), byref(length), byref(name))
        )
        begin = name.value or b""
        if data.value is not None:  # it tries to go on where its last login ended
            begin += b"\0" + ctypes.string_at(data.value, length.value)
        self._say(BEGIN, begin)
        kind, body = self._next()
        while kind == MORE:
            self._say(MORE, self._client_step(body))
            if self._complete:
                self._describe()
                self._send_payloads()
            kind, body = self._next()
        if kind != SUCCESS:
            raise LibraryError(f"refused: {body.decode()}")
        if body:
            self._client_step(body)
        if not self._complete:
            raise LibraryError("success before completion")
        self._describe()

    def _client_step(self, challenge: bytes) -> bytes | None:
        step = self._dll.sasl_client_step
        code, reply = self._session.ask(step, challenge, len(challenge), None)
        self._complete = code == OK
        return reply

    def _client_callbacks(self) -> Callbacks:
        password = self._option("password")
        # sasl_secret_t: a length, and as many octets
        secret = ctypes.create_string_buffer(bytes(c_ulong(len(password))) + password)
        names = {
            CB_USER: self._options.get("authzid", "").encode(),
            CB_AUTHNAME: self._option("username"),
        }

        def getsimple(_: int, number: int, result: Any, length: Any) -> int:
            result[0] = names[number]
            if length:
                length[0] = len(names[number])
            return OK

        def getsecret(_conn: int, _: int, _number: int, result: Any) -> int:
            result[0] = ctypes.addressof(secret)
            return OK

        def getrealm(_: int, _number: int, available: Any, result: Any) -> int:
            result[0] = available[0] if available else None
            return OK

        simple = GETSIMPLE(getsimple)
        return Callbacks(
            (CB_USER, simple),
            (CB_AUTHNAME, simple),
            (CB_PASS, GETSECRET(getsecret)),
            (CB_GETREALM, GETREALM(getrealm)),
        )

    def _let_log_in(self) -> None:
        session, dll = self._session, self._dll
        apart = "apart" in self._options
        new = dll.sasl_server_new
        flags = 0 if apart else SUCCESS_DATA
        session.check(
            new(SERVICE, self._option("host"), REALM.encode(), None, None, None, flags, session.ref)
        )
        self._protect()
        name, _, initial = self._next()[1].partition(b"\0")
        try:
            code, reply = session.ask(dll.sasl_server_start, name, initial or None, len(initial))
            while code == CONTINUE:
                self._say(MORE, reply)
                kind, body = self._next()
                if kind == ABORT:
                    raise LibraryError("aborted")
                code, reply = session.ask(dll.sasl_server_step, body, len(body))
        except LibraryError as error:
            self._say(REFUSED, str(error).encode())
            raise
        self._complete = True
        self._describe()
        self._results["authzid"] = session.text(USERNAME)
        self._say(SUCCESS, reply)

    def _protect(self) -> None:
        maximum = self._number("max_ssf", 256)
        self._session.protect(
            self._number("min_ssf", 0), maximum, self._number("maxbuf", 65536) if maximum else 0
        )

    def _describe(self) -> None:
        self._results["ssf"] = self._session.number(SSF)
        self._results["maximum"] = self._session.number(MAX_OUT_BUFFER)

    def _say(self, kind: bytes, body: bytes | None) -> None:
        self._held += message(kind, body or b"")
        if not ("eager" in self._options and self._complete):
            self._release()

    def _release(self) -> None:
        self._sock.sendall(self._held)
        self._held.clear()

    def _next(self) -> tuple[bytes, bytes]:
        length = int.from_bytes(self._exactly(4), "big")
        data = self._exactly(length)
        return data[:1], data[1:]

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            received = self._sock.recv(size - len(data))
            if not received:
                raise EOFError("the end, in the login")
            data += received
        return data

    # what follows it

    def _talk(self) -> None:
        self._send_payloads()
        digest, count = hashlib.sha256(), 0
        self._results["received"] = 0
        while data := self._sock.recv(self._number("chunk", 65536)):
            plaintext = self._decoded(data)
            digest.update(plaintext)
            count += len(plaintext)
            self._results["received"] = count
            self._sock.sendall(self._encoded(plaintext))
        self._results["sha256"] = digest.hexdigest()

    def _decoded(self, data: bytes) -> bytes:
        if not self._results["ssf"]:
            return data
        return self._session.ask(self._dll.sasl_decode, data, len(data))[1] or b""

    def _encoded(self, data: bytes) -> bytes:
        if not self._results["ssf"]:
            return data
        step = self._session.number(MAX_OUT_BUFFER)
        frames = b""
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            frame = self._session.ask(self._dll.sasl_encode, piece, len(piece))[1] or b""
            if self._number("tamper", -1) == self._sent:
                frame = frame[:4] + bytes([frame[4] ^ 1]) + frame[5:]
            self._sent += 1
            frames += frame
        return frames

    def _send_payloads(self) -> None:
        sizes, self._sends = self._sends.split(","), ""
        pieces, position = self._number("pieces", 0), 0
        for size in map(int, filter(None, sizes)):
            self._held += self._encoded(payload(size, position))
            position += size
            if not pieces:
                self._release()
        data = bytes(self._held)
        self._held.clear()
        for start in range(0, len(data), pieces or len(data) or 1):
            self._sock.sendall(data[start : start + (pieces or len(data))])


def encode(values: dict[str, object]) -> bytes:
    return urlencode(values).encode() + b"\n"


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(folder: Path) -> None:
    library = Library(folder)
    Thread(target=end_with_input, daemon=True).start()
    with socket.create_server((LOOPBACK, 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            control = listener.accept()[0]
            with control, control.makefile("rb") as lines:
                control.settimeout(PATIENCE)
                options = dict(parse_qsl(lines.readline().decode().strip()))
                if "port" in options and "remember" not in options:
                    library.forget()
                control.sendall(encode(PlayedCase(library, options, control).play()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
