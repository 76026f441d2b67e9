"""A socket over a socket: what is sent is sealed, what comes is unsealed.

A `SASLSocket` looks like the socket below it to those who read and write: timeouts, partial reads
and half-closed connections are the same. One thread may send and one receive. Errors of the layer
are raised as they are, a `SASLError`, after the socket below was closed: what was wrong on the wire
is a `ConnectionError` too.

With `select` or `selectors` ask `pending()` first: the kernel does not know of plaintext that is
here already. Sending is for sockets that wait, with a timeout or without: once sealed, all of it
has to go out, so a `send` that does not end well leaves the socket broken for writing.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from saslwrap.context import Buffer, SecurityContext, octets
from saslwrap.errors import ContextBusyError, SASLError, UsageError, half_made_too, require_kind
from saslwrap.exchange import Done, Exchange, NeedData, Send, Step, check_kind
from saslwrap.layer import ClearLayer, Layer, SecurityLayer, next_layer
from saslwrap.mechanisms.channel_binding import channel_info
from saslwrap.properties import MAX_MAXBUF
from saslwrap.sync.file import SocketFile, check_mode, with_buffer

__all__ = ["SASLSocket", "authenticate_socket"]

CHUNK = 65536


def _require_socket(sock: object) -> None:
    """Refuse what is no socket. Those of other libraries are some, and so is what passes calls on.

    :raises UsageError: it is none
    """
    calls = ("recv", "sendall", "gettimeout")
    if isinstance(sock, type) or not all(hasattr(sock, call) for call in calls):
        require_kind("sock", sock, socket.socket, "a connected socket")


class SASLSocket:
    """A socket over a socket and a security layer.

    :param sock: a connected socket, over TLS too; this one owns it from now on
    :param context: the context of a completed login, None for no layer (yet)
    :param received: octets that were read from `sock` past the login's end: ciphertext, with a
        context
    :raises UsageError: the context is closed, or has a layer already; `sock` is no socket
    :ivar sock: the socket below
    """

    def __init__(
        self, sock: socket.socket, context: SecurityContext | None, *, received: Buffer = b""
    ) -> None:
        _require_socket(sock)
        self.sock: Final = sock
        self._layer: Layer = ClearLayer() if context is None else SecurityLayer(context)
        self._layer.receive_data(received)
        self._sending: Final = threading.Lock()
        self._receiving: Final = threading.Lock()
        self._half_sent = False
        self._closed = False
        self._files = 0

    def authenticate(self, exchange: Exchange, received: Buffer = b"") -> None:
        """Log in over this socket: see `authenticate_socket`."""
        with _only_one(self._sending, "sending to"), _only_one(self._receiving, "receiving from"):
            tls = self.sock if isinstance(self.sock, ssl.SSLSocket) else None
            check_kind(exchange, Exchange)
            if self.gettimeout() == 0:
                raise UsageError(
                    "a login waits for answers, which this socket does not; settimeout() first"
                )
            exchange.begin(received)
            try:
                exchange.bind_channel(channel_info(tls))
                self._drive(exchange)
                self._layer = next_layer(self._layer, exchange.context, exchange.trailing_data)
                if (more := exchange.follow_up()) is not None:
                    self._drive(more)
                    self._layer.push_back(more.trailing_data)
            except BaseException as error:
                if exchange.leaves_usable(error):
                    self._layer.push_back(exchange.trailing_data)
                else:
                    exchange.abandon()
                    self._kill()
                raise

    def _drive(self, exchange: Exchange) -> None:
        while True:
            match exchange.advance():
                case Send(data):
                    self._send(data)
                case NeedData():
                    if data := self._receive(MAX_MAXBUF):
                        exchange.receive_data(data)
                    else:
                        exchange.receive_eof()
                case Step():
                    exchange.step()
                case Done():
                    return

    @property
    def context(self) -> SecurityContext | None:
        """The security context, None without a layer."""
        return self._layer.context

    # reading

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive 1 to `bufsize` octets of plaintext, `b""` at the end.

        :raises IntegrityError: a frame does not authenticate
        :raises ProtocolError: a frame breaks the framing, or the connection ended inside one
        :raises TimeoutError: nothing whole came in time; what came is kept
        :raises BlockingIOError: the same, on a socket that does not wait (`SSLWantReadError` over
            TLS)
        :raises ContextBusyError: another thread is receiving
        :raises OSError: this side has closed it (`EBADF`)
        """
        _no_flags(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        with _only_one(self._receiving, "receiving from"):
            return self._receive(bufsize) if bufsize else b""

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into a buffer; return how many octets, 0 at the end. As `recv`."""
        view = memoryview(buffer).cast("B")
        if view.readonly or not 0 <= nbytes <= len(view):  # found out later, data would be lost
            raise ValueError(f"the buffer is read-only, or does not hold {nbytes} octets")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def pending(self) -> int:
        """How many octets `recv` would give at once, without the socket (as `SSLSocket.pending`).

        :raises SASLError: as `recv`
        """
        with _only_one(self._receiving, "receiving from"):
            if not self._layer.pending:
                self._layer.push_back(self._read(MAX_MAXBUF))
            return self._layer.pending

    def _receive(self, max_bytes: int) -> bytes:
        while not (data := self._read(max_bytes)) and not self._layer.at_eof:
            if chunk := self.sock.recv(CHUNK):
                self._layer.receive_data(chunk)
            else:
                self._layer.receive_eof()
        return data

    def _read(self, max_bytes: int) -> bytes:
        self._check_open()
        with self._killed_by_a_failure():
            return self._layer.read(max_bytes)

    # writing

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Seal and send all of `data`; return its length."""
        try:
            self.sendall(data, flags)
            return len(octets(data))
        finally:
            data = b""  # no traceback is to show it

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Seal and send all of `data`.

        :raises SASLError: the layer failed
        :raises BrokenPipeError: an earlier send did not end well
        :raises ContextBusyError: another thread is sending
        """
        try:
            _no_flags(flags)
            with _only_one(self._sending, "sending to"):
                self._send(data)
        finally:
            data = b""

    def _send(self, data: Buffer) -> None:
        frames: list[Buffer] = []
        try:
            self._check_open()
            self._check_writable()
            for batch in self._layer.batches(data):
                with self._killed_by_a_failure():
                    frames = self._layer.send_data(batch)
                if frames:
                    self._half_sent = self.context is not None
                    self.sock.sendall(b"".join(frames))
                    self._half_sent = False
        finally:
            data = batch = b""
            frames.clear()

    def _check_open(self) -> None:
        """Raise what a closed socket does. What broke the layer before counts more."""
        if self._closed and not self._files and (self.context is None or not self.context.failed):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _check_writable(self) -> None:
        if self._half_sent:
            raise BrokenPipeError(
                "an earlier send failed after its data was sealed, so the peer misses a part of "
                "the sequence; close this connection and open a new one"
            )

    # the rest of a socket

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Make a file over this socket, as `socket.makefile`; the socket closes after its files."""
        check_mode(mode, buffering)
        self._files += 1
        raw = SocketFile(self, mode, on_close=self._file_closed)
        if buffering == 0:
            return raw
        buffered = with_buffer(raw, buffering)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def settimeout(self, value: float | None) -> None:
        """Set the timeout of the socket below, in seconds; None waits for ever."""
        self.sock.settimeout(value)

    def gettimeout(self) -> float | None:
        """Get the timeout of the socket below."""
        return self.sock.gettimeout()

    def setblocking(self, flag: bool) -> None:
        """Wait for ever, or not at all."""
        self.sock.setblocking(flag)

    def fileno(self) -> int:
        """Give the file descriptor of the socket below, for `select`: see `pending`."""
        return self.sock.fileno()

    def getpeername(self) -> Any:
        """Give the peer's address."""
        return self.sock.getpeername()

    def getsockname(self) -> Any:
        """Give our own address."""
        return self.sock.getsockname()

    def getsockopt(self, *arguments: Any) -> Any:
        """Get an option of the socket below."""
        return self.sock.getsockopt(*arguments)

    def setsockopt(self, *arguments: Any) -> None:
        """Set an option of the socket below."""
        self.sock.setsockopt(*arguments)

    def shutdown(self, how: int) -> None:
        """Close one direction or both, below: SASL has no message for it.

        :raises UsageError: one direction, over TLS, which would leave the other one without TLS
        """
        if isinstance(self.sock, ssl.SSLSocket) and how != socket.SHUT_RDWR:
            raise UsageError("TLS cannot be half closed; shut both directions down, or close")
        self.sock.shutdown(how)

    def close(self) -> None:
        """Close the socket below and drop the keys, when all its files are closed too."""
        self._closed = True
        if not self._files:
            if self.context is not None:
                self.context.close()
            self.sock.close()

    def __enter__(self) -> SASLSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @half_made_too
    def __repr__(self) -> str:
        return f"<SASLSocket {self._layer!r} over {self.sock!r}>"

    def _file_closed(self) -> None:
        self._files -= 1
        if self._closed:
            self.close()

    @contextmanager
    def _killed_by_a_failure(self) -> Iterator[None]:
        try:
            yield
        except UsageError:
            raise
        except SASLError:
            self._kill()
            raise

    def _kill(self) -> None:
        """Close at once, in both directions; a thread that waits in `recv` wakes up."""
        with suppress(OSError):  # it may not be connected any more
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@contextmanager
def _only_one(lock: threading.Lock, what: str) -> Iterator[None]:
    if not lock.acquire(blocking=False):
        raise ContextBusyError(f"another thread is {what} this socket; serialise them")
    try:
        yield
    finally:
        lock.release()


def _no_flags(flags: int) -> None:
    if flags:
        raise UsageError("flags have no meaning above a security layer")


def authenticate_socket(
    sock: socket.socket | SASLSocket, exchange: Exchange, *, received: Buffer = b""
) -> SASLSocket:
    """Log in, or be logged in to, over a socket; return the socket to go on with.

    On a `SASLSocket` it is a rebind: the login travels under the layer in force, then the new layer
    replaces it in the same object. A login without a layer leaves the old one in force.

    After a login that was refused in good form `sock` is usable, in its previous layer
    (`exchange.trailing_data` has what was read past the refusal from a plain socket). After
    anything else it is closed: a peer that broke the protocol or did not prove itself, a time-out.

    The socket returned owns `sock` from now on, which is the one below: what is sent by `sock`
    itself would go out in clear below a layer, and nothing refuses it.

    :param sock: a connected socket that waits, with a timeout or without
    :param exchange: how the application protocol carries the login, such as `LDAPBind(mechanism)`
    :param received: octets of the login that were read from `sock` already
    :raises AuthenticationError: the login was refused, or the peer did not prove itself
    :raises NegotiationError: policy and offer do not meet
    :raises ProtocolError: the peer broke the protocol, or closed the connection
    :raises UsageError: the exchange, or its mechanism, was used before; `sock` is no socket, or one
        that does not wait
    :raises OSError: the socket broke, or its timeout passed
    """
    sealed = sock if isinstance(sock, SASLSocket) else SASLSocket(sock, None)
    sealed.authenticate(exchange, received)
    return sealed
