"""The anyio shell: a sealed byte stream on asyncio, uvloop and trio."""

from saslwrap.anyio.listener import SASLConnectable, SASLListener
from saslwrap.anyio.stream import SASLAttribute, SASLStream, authenticate

__all__ = ["SASLAttribute", "SASLConnectable", "SASLListener", "SASLStream", "authenticate"]
