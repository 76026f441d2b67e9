"""DIGEST-MD5 (RFC 2831): the mechanism of Windows' Digest SSP, on both sides.

Historic since RFC 6331, and RC4, DES and MD5 are broken or weak: use it where the server has
nothing better.
"""

from saslwrap.mechanisms.digest_md5.client import DigestMD5Client
from saslwrap.mechanisms.digest_md5.credentials import DigestMD5Secret
from saslwrap.mechanisms.digest_md5.server import DigestMD5Server

__all__ = ["DigestMD5Client", "DigestMD5Secret", "DigestMD5Server"]
