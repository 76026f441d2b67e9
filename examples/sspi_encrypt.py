"""Seal and open messages in memory of one's own, with the calls of Windows' Digest package.

What is written down in C as InitializeSecurityContext, EncryptMessage and DecryptMessage is the
same here, on any platform. One memory holds message and signature side by side; it is allocated
once, and nothing is copied.

Run it as it is, sspi_encrypt.py, and both sides are in its memory.
"""

import sys

from saslwrap.sspi import (
    CtxtHandle,
    InboundCredential,
    IscReq,
    OutboundCredential,
    SecBuffer,
    SecBufferType,
    SecPkgAttr,
    accept_security_context,
    decrypt_message,
    encrypt_message,
    initialize_security_context,
    query_context_attributes,
)

CONFIDENTIALITY = IscReq.ISC_REQ_CONFIDENTIALITY  # ASC_REQ_CONFIDENTIALITY has the same number


def log_in() -> tuple[CtxtHandle, CtxtHandle]:
    alice = OutboundCredential("alice", "example.com", "s3cret")
    server = InboundCredential(
        lambda user, realm: {"alice": "s3cret"}.get(user),
        service="ldap",
        host="dc.example.com",
        realms=["example.com"],
    )
    _, theirs, token = accept_security_context(server, None, None, CONFIDENTIALITY)
    _, ours, token = initialize_security_context(
        alice, None, "ldap/dc.example.com", CONFIDENTIALITY, token
    )
    _, theirs, token = accept_security_context(server, theirs, token, CONFIDENTIALITY)
    initialize_security_context(alice, ours, "ldap/dc.example.com", CONFIDENTIALITY, token)
    return ours, theirs


def main() -> None:
    client, server = log_in()
    print(client.context)
    print("user:", query_context_attributes(server, SecPkgAttr.SECPKG_ATTR_NAMES))

    sizes = query_context_attributes(client, SecPkgAttr.SECPKG_ATTR_SIZES)
    memory = memoryview(bytearray(4096 + sizes.max_signature + sizes.block_size))

    for message in (b"a first message", b"", b"and a third"):
        length = len(message)
        memory[:length] = message
        data = SecBuffer(SecBufferType.SECBUFFER_DATA, memory[:length])
        padding = SecBuffer(SecBufferType.SECBUFFER_PADDING, memory[length:])
        encrypt_message(client, 0, [data, padding], 0)

        token = memory[: length + len(padding.data)]
        print(f"{length} octets on the wire as {token.hex()}")

        whole = SecBuffer(SecBufferType.SECBUFFER_DATA, token)
        decrypt_message(server, [whole], 0)
        print("opened:", bytes(whole.data))


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case _:
            sys.exit(__doc__)
