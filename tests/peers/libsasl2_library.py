"""What we call of libsasl2, by ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_uint, c_ulong, c_void_p
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any, Final

from tests.peers.directory import REALM, USERS

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
