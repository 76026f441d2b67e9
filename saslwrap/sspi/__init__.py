"""The SSPI face of DIGEST-MD5: the calls of Windows' Digest package, in the caller's memory.

Names, numbers and argument orders are those of sspi.h; what a call gives back it returns, and what
it refuses it raises, as `SSPIError` with the status. One call stands for one of Windows':

    InitializeSecurityContext   initialize_security_context     negotiation.py
    AcceptSecurityContext       accept_security_context
    EncryptMessage              encrypt_message                 messages.py
    DecryptMessage              decrypt_message
    MakeSignature               make_signature
    VerifySignature             verify_signature
    QueryContextAttributes      query_context_attributes        attributes.py

Three rules hold for all of them. What is wrong with a call is found before anything is spent: the
context, its sequence numbers and the buffers stay as they were. What is wrong with a peer's token
ends the context, as it does everywhere in this package. And a second call of one direction, while
the first is at work in another thread, is a `ContextBusyError`: Windows has no status for it,
because there it goes unnoticed.
"""

from saslwrap.sspi.attributes import KeyInfo, SecPkgAttr, SecPkgInfo, query_context_attributes
from saslwrap.sspi.buffers import SECBUFFER_READONLY, SecBuffer, SecBufferType
from saslwrap.sspi.handles import CtxtHandle, SSPIError
from saslwrap.sspi.messages import (
    decrypt_message,
    encrypt_message,
    make_signature,
    verify_signature,
)
from saslwrap.sspi.negotiation import (
    AscReq,
    InboundCredential,
    IscReq,
    OutboundCredential,
    accept_security_context,
    initialize_security_context,
)

__all__ = [
    "SECBUFFER_READONLY",
    "AscReq",
    "CtxtHandle",
    "InboundCredential",
    "IscReq",
    "KeyInfo",
    "OutboundCredential",
    "SSPIError",
    "SecBuffer",
    "SecBufferType",
    "SecPkgAttr",
    "SecPkgInfo",
    "accept_security_context",
    "decrypt_message",
    "encrypt_message",
    "initialize_security_context",
    "make_signature",
    "query_context_attributes",
    "verify_signature",
]
