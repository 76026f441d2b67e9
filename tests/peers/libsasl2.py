"""Cyrus SASL's library, libsasl2, by ctypes, as a peer in a process of its own.

`python -m tests.peers.libsasl2 FOLDER` is that process: it keeps its users in a sasldb in FOLDER
and plays one case after the other, as `PeerProcess` says. A crash of the library ends it alone.

The options of a case:

    port            our port: the peer is a client; else it is a server and tells its own
    host, username, password, authzid
    min_ssf, max_ssf, maxbuf    its sasl_security_properties_t
    remember        a client goes on from its last login to the same host, if it can
    apart           a server gives its proof as a challenge, not with the success
    sends           sizes of what it sends after the login
    pieces          0: a segment each; else all in pieces of this size
    eager           sends in one segment with its last message of the login
    chunk           how many octets it hands to `sasl_decode` at once
    tamper          the number of the frame to alter on its way out

What libsasl2 (2.1.28) does beyond the notes of others:

- `sasl_decode` of several frames gives all or nothing: one that is bad takes those before it along.
- A frame of des whose padding is bad fails without a text of its own: `sasl_errdetail` still has
  what the login left there.
- Its client remembers each login to a host as long as the process lives, and begins the next one
  with a subsequent authentication (RFC 2831 section 2.2), unasked: the old nonce and cnonce with
  nc=00000002, as an initial response. It takes a fresh challenge for an answer. But what the old
  login had of a cipher stays in force if the new one ends in auth-int: nothing can be read then.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import os
import socket
import sys
from collections.abc import Sequence
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_uint, c_ulong, c_void_p
from functools import cache
from glob import glob
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from tests.peers.directory import REALM, USERS
from tests.peers.jdk import PATIENCE, PeerProcess, payload
from tests.peers.plain_exchange import ABORT, BEGIN, MORE, REFUSED, SUCCESS, message
from tests.peers.support import LOOPBACK, require_program, require_sasl_plugin

ROOT = Path(__file__).parents[2]
SERVICE = b"test"

# sasl.h

OK, CONTINUE = 0, 1
SUCCESS_DATA = 0x0004
SECURITY_PROPERTIES, SSF, MAX_OUT_BUFFER, USERNAME = 101, 1, 2, 0
CB_LIST_END, CB_GETOPT = 0, 1
CB_USER, CB_AUTHNAME, CB_PASS, CB_GETREALM = 0x4001, 0x4002, 0x4004, 0x4008
SET_CREATE = 0x01

_FOLDERS = ("/usr/lib/*/", "/usr/lib64/", "/usr/lib/", "/usr/local/lib/")


class SecurityPropertiesStruct(ctypes.Structure):
    """sasl_security_properties_t"""

    _fields_ = (
        ("min_ssf", c_uint),
        ("max_ssf", c_uint),
        ("maxbufsize", c_uint),
        ("security_flags", c_uint),
        ("property_names", c_void_p),
        ("property_values", c_void_p),
    )


class CallbackStruct(ctypes.Structure):
    """sasl_callback_t"""

    _fields_ = (("id", c_ulong), ("proc", c_void_p), ("context", c_void_p))


GETSIMPLE = CFUNCTYPE(c_int, c_void_p, c_int, POINTER(c_char_p), POINTER(c_uint))
GETSECRET = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, POINTER(c_void_p))
GETREALM = CFUNCTYPE(c_int, c_void_p, c_int, POINTER(c_char_p), POINTER(c_char_p))
GETOPT = CFUNCTYPE(c_int, c_void_p, c_char_p, c_char_p, POINTER(c_char_p), POINTER(c_uint))


@cache
def find_library() -> str | None:
    """The library's file, whether or not there are tools for development."""
    found = (path for folder in _FOLDERS for path in sorted(glob(f"{folder}libsasl2.so.[23]")))
    return next(found, None) or ctypes.util.find_library("sasl2")


def require_libsasl2() -> None:
    """Skip the test that asks for it if it is missing; fail where peers are required."""
    if find_library() is None:
        require_program("libsasl2.so.2")  # which is none, but has its packages named
    require_sasl_plugin("digestmd5")
    require_sasl_plugin("sasldb")


class Libsasl2(PeerProcess):
    """What the tests see of it."""

    def command(self) -> Sequence[str]:
        return (sys.executable, "-m", "tests.peers.libsasl2", str(self.folder))

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "SASL_CONF_PATH": str(self.folder)}


# From here on: in the process.


class LibraryError(Exception):
    """A call failed; the text is the library's."""


class Library:
    """The library, with its server's users."""

    def __init__(self, folder: Path) -> None:
        path = find_library()
        assert path is not None
        self.dll: Final = ctypes.CDLL(path)
        self.dll.sasl_errdetail.restype = c_char_p
        self.dll.sasl_errstring.restype = c_char_p
        self._options = {
            b"pwcheck_method": b"auxprop",
            b"auxprop_plugin": b"sasldb",
            b"sasldb_path": os.fsencode(folder / "sasldb2"),
        }
        self._callbacks = Callbacks((CB_GETOPT, GETOPT(self._getopt)))
        self._check(self.dll.sasl_server_init(self._callbacks.array, b"saslwrap-tests"))
        self._check(self.dll.sasl_client_init(self._callbacks.array))
        for user in USERS:
            self._create(user.username.encode(), user.password.encode())

    def _getopt(self, _: int, plugin: bytes, option: bytes, result: Any, length: Any) -> int:
        value = self._options.get(option)
        if value is None:
            return -1
        result[0] = value
        if length:
            length[0] = len(value)
        return OK

    def forget(self) -> None:
        """Let the client's side begin anew, without the logins that it remembers."""
        self._check(self.dll.sasl_client_done())
        self._check(self.dll.sasl_client_init(self._callbacks.array))

    def _create(self, username: bytes, password: bytes) -> None:
        session = Session(self)
        new = self.dll.sasl_server_new
        session.check(new(SERVICE, b"localhost", REALM.encode(), None, None, None, 0, session.ref))
        create = self.dll.sasl_setpass
        length = len(password)
        session.check(create(session.conn, username, password, length, None, 0, SET_CREATE))
        session.dispose()

    def _check(self, code: int) -> None:
        if code not in (OK, CONTINUE):
            text = self.dll.sasl_errstring(code, None, None)
            raise LibraryError(f"{code}: {text.decode(errors='replace')}")


class Callbacks:
    """An array of sasl_callback_t, to be kept as long as the library may use it."""

    def __init__(self, *entries: tuple[int, Any]) -> None:
        self.array = (CallbackStruct * (len(entries) + 1))()
        self._functions = [function for _, function in entries]
        for item, (number, function) in zip(self.array, entries, strict=False):
            item.id, item.proc = number, ctypes.cast(function, c_void_p)
        self.array[len(entries)].id = CB_LIST_END


class Session:
    """A sasl_conn_t."""

    def __init__(self, library: Library) -> None:
        self.dll: Final = library.dll
        self.conn: Final = c_void_p()
        self.ref: Final = byref(self.conn)

    def check(self, code: int) -> int:
        if code in (OK, CONTINUE):
            return code
        detail = self.dll.sasl_errdetail(self.conn) if self.conn else b""
        raise LibraryError(f"{code}: {(detail or b'').decode(errors='replace')}")

    def ask(self, function: Any, *arguments: Any) -> tuple[int, bytes | None]:
        """Call what gives octets, as its last two arguments; None is not the same as empty."""
        data, length = c_void_p(), c_uint()
        code = self.check(function(self.conn, *arguments, byref(data), byref(length)))
        return code, None if data.value is None else ctypes.string_at(data.value, length.value)

    def protect(self, minimum: int, maximum: int, maxbuf: int) -> None:
        properties = SecurityPropertiesStruct(minimum, maximum, maxbuf, 0, None, None)
        set_property = self.dll.sasl_setprop
        self.check(set_property(self.conn, SECURITY_PROPERTIES, byref(properties)))

    def number(self, name: int) -> int:
        value = POINTER(c_uint)()
        self.check(self.dll.sasl_getprop(self.conn, name, byref(value)))
        return int(value[0])

    def text(self, name: int) -> str:
        value = c_char_p()
        self.check(self.dll.sasl_getprop(self.conn, name, byref(value)))
        return (value.value or b"").decode()

    def dispose(self) -> None:
        self.dll.sasl_dispose(self.ref)


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
        self._results["username"] = session.text(USERNAME)
        self._say(SUCCESS, reply)

    def _protect(self) -> None:
        maximum = self._number("max_ssf", 256)
        self._session.protect(
            self._number("min_ssf", 0), maximum, self._number("maxbuf", 65536) if maximum else 0
        )

    def _describe(self) -> None:
        self._results["ssf"] = self._session.number(SSF)
        self._results["maxout"] = self._session.number(MAX_OUT_BUFFER)

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
