"""Messages: EncryptMessage, DecryptMessage, MakeSignature, VerifySignature.

All four go the same way: is there a context, and does it live; is the call as documented; are the
buffers there, and large enough; and only then, with nothing left that a caller could have got
wrong, the context itself, which spends a sequence number and writes. What still fails then is a
peer's doing or the machine's.

    DATA       message                       the first octets of the token, as many
    PADDING    room                          the rest of it

Where both stand in one memory, side by side, the token stands there in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from saslwrap.context import SecurityContext
from saslwrap.errors import SecurityStatus
from saslwrap.mechanisms.digest_md5.context import shortest_token
from saslwrap.mechanisms.forgetful import forgetful
from saslwrap.properties import QOP
from saslwrap.sspi.buffers import (
    SecBuffer,
    SecBufferType,
    check_apart,
    check_writable,
    message_and_signature,
    token_and_message,
    unused,
)
from saslwrap.sspi.handles import Handle, SSPIError, context_of, native

__all__ = ["decrypt_message", "encrypt_message", "make_signature", "verify_signature"]

_TRAILER = SecBufferType.SECBUFFER_STREAM_TRAILER
_TYPES_WHEN_SEALING = (SecBufferType.SECBUFFER_PADDING, _TRAILER)
_TYPES_WHEN_SIGNING = (SecBufferType.SECBUFFER_PADDING, SecBufferType.SECBUFFER_TOKEN)


@forgetful
def encrypt_message(
    context: Handle, qop: int, buffers: Sequence[SecBuffer], sequence_number: int
) -> None:
    """Seal a message where it is (EncryptMessage).

    Of a context of `QOP.AUTH_INT` this is `make_signature`: the message stays readable.

    :param context: of either side
    :param qop: 0 (fQOP)
    :param buffers: DATA holds the message, at most `StreamSizes.maximum_message` octets, and then
        the first octets of the token. PADDING, or a second DATA, has room for
        `Sizes.max_signature + Sizes.block_size` octets, and then holds the rest. Or: STREAM_HEADER,
        DATA, STREAM_TRAILER with room for `StreamSizes.trailer`, EMPTY. All that are not readonly,
        joined in order, are the token
    :param sequence_number: 0 (MessageSeqNo); the context counts
    :raises SSPIError: with the status; see the table in the documentation
    :raises ContextBusyError: another thread seals on this context
    """
    sealer = _live(context)
    _check_zero(qop, sequence_number)
    message, signature = message_and_signature(buffers, _TYPES_WHEN_SEALING)
    sizes = sealer.sizes
    room = sizes.max_signature + sizes.block_size
    if signature.type is _TRAILER:
        room = sealer.stream_sizes.trailer
    check_writable(message)
    _seal(sealer, sealer.seal_in_place, message, signature, room)
    for buffer in unused(buffers):
        buffer.data = None


@forgetful
def make_signature(
    context: Handle, qop: int, buffers: Sequence[SecBuffer], sequence_number: int
) -> None:
    """Sign a message (MakeSignature): message and signature together are a token.

    :param context: of `QOP.AUTH_INT`; a peer of `QOP.AUTH_CONF` opens nothing that is only signed
    :param qop: 0 (fQOP)
    :param buffers: DATA holds the message, TOKEN, PADDING or a second DATA has room for
        `Sizes.max_signature` octets
    :param sequence_number: 0 (MessageSeqNo); the context counts
    :raises SSPIError: with the status; see the table in the documentation
    :raises ContextBusyError: another thread seals on this context
    """
    sealer = _signing(_live(context))
    _check_zero(qop, sequence_number)
    message, signature = message_and_signature(buffers, _TYPES_WHEN_SIGNING)
    _seal(sealer, sealer.sign, message, signature, sealer.sizes.max_signature)


@forgetful
def decrypt_message(context: Handle, buffers: Sequence[SecBuffer], sequence_number: int) -> None:
    """Check a token, and open it where it is (DecryptMessage). An empty message is normal.

    :param context: of either side
    :param buffers: DATA or STREAM holds one whole token, and then shows the message in it; so does
        an empty DATA beside a STREAM. A forged token is wiped
    :param sequence_number: 0 (MessageSeqNo); the context counts
    :raises SSPIError: with the status; see the table in the documentation
    :raises ContextBusyError: another thread unseals on this context
    """
    unsealer = _live(context)
    _check_zero(0, sequence_number)
    token, message = token_and_message(buffers)
    check_writable(token)
    _check_complete(len(token.data), shortest_token(unsealer.sizes.block_size))
    length = native(unsealer.unseal_in_place, token.data)
    token.data = message.data = token.data[:length]


@forgetful
def verify_signature(context: Handle, buffers: Sequence[SecBuffer], sequence_number: int) -> None:
    """Check a message against its signature (VerifySignature). It is left as it is.

    :param context: of `QOP.AUTH_INT`
    :param buffers: DATA holds the message, TOKEN, PADDING or a second DATA its signature
    :param sequence_number: 0 (MessageSeqNo); the context counts
    :raises SSPIError: with the status; see the table in the documentation
    :raises ContextBusyError: another thread unseals on this context
    """
    unsealer = _signing(_live(context))
    _check_zero(0, sequence_number)
    message, signature = message_and_signature(buffers, _TYPES_WHEN_SIGNING)
    _check_complete(len(signature.data), unsealer.sizes.max_signature)
    if len(signature.data) > unsealer.sizes.max_signature:
        raise SSPIError(
            f"a signature has {unsealer.sizes.max_signature} octets, not {len(signature.data)}",
            SecurityStatus.SEC_E_INVALID_TOKEN,
        )
    native(unsealer.verify, message.data, signature.data)


def _live(handle: Handle) -> SecurityContext:
    context = context_of(handle)
    native(context.check)
    return context


def _signing(context: SecurityContext) -> SecurityContext:
    if context.qop is not QOP.AUTH_INT:
        raise SSPIError(
            "the login negotiated confidentiality, under which each message is sealed; use "
            "encrypt_message and decrypt_message",
            SecurityStatus.SEC_E_QOP_NOT_SUPPORTED,
        )
    return context


def _check_zero(qop: int, sequence_number: int) -> None:
    if qop:
        raise SSPIError(
            "the login chose the quality of protection; qop is 0",
            SecurityStatus.SEC_E_QOP_NOT_SUPPORTED,
        )
    if sequence_number:
        raise SSPIError(
            "the context counts messages; sequence_number is 0",
            SecurityStatus.SEC_E_OUT_OF_SEQUENCE,
        )


def _check_complete(length: int, shortest: int) -> None:
    if length < shortest:
        raise SSPIError(
            f"{length} octets are here, {shortest} are the least; read more",
            SecurityStatus.SEC_E_INCOMPLETE_MESSAGE,
        )


def _seal(
    sealer: SecurityContext,
    seal: Callable[[memoryview], bytes],
    message: SecBuffer,
    signature: SecBuffer,
    room: int,
) -> None:
    maximum = sealer.stream_sizes.maximum_message
    if len(message.data) > maximum:
        raise SSPIError(
            f"a message of {len(message.data)} octets; the peer's buffer takes {maximum}",
            SecurityStatus.SEC_E_BUFFER_TOO_SMALL,
        )
    if len(signature.data) < room:
        raise SSPIError(
            f"the signature's buffer has {len(signature.data)} octets, {room} are needed",
            SecurityStatus.SEC_E_BUFFER_TOO_SMALL,
        )
    check_writable(signature)
    check_apart(message, signature)
    rest = native(seal, message.data)
    signature.data[: len(rest)] = rest
    signature.data = signature.data[: len(rest)]
