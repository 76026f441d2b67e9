"""The server of the soak: the asyncio shell's streams, on asyncio's own event loop."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace
from itertools import cycle
from multiprocessing.connection import Connection

from saslwrap.asyncio import start_server
from saslwrap.errors import SASLError
from saslwrap.exchange import Exchange
from saslwrap.mechanisms.digest_md5 import DigestMD5Server
from saslwrap.protocols.ldap import LDAPBindServer
from saslwrap.testing.pairs import HOST, REALM, get_secret
from tests.measure.process import questions, raise_file_limit
from tests.measure.soak_plan import (
    ADDRESS,
    ALL_LAYERS,
    NUMBER_OCTETS,
    SERVER_MAXBUFS,
    Plan,
    Sample,
    Tally,
    octets_of,
)

__all__ = ["serve"]

#: Seconds for a login: on a machine with other work, many at once take their time.
LOGIN_PATIENCE = 300


def serve(pipe: Connection, plan: Plan) -> None:
    """Be the server: tell the port, then a sample each time it is asked."""
    tracemalloc.start()
    raise_file_limit(plan.files)
    asyncio.run(_Server().run(pipe, plan))


class _Server:
    def __init__(self) -> None:
        self._tally = Tally()
        self._maxbufs = cycle(SERVER_MAXBUFS)

    async def run(self, pipe: Connection, plan: Plan) -> None:
        server = await start_server(
            self._talk,
            ADDRESS,
            make_exchange=self._exchange,
            authenticate_timeout=LOGIN_PATIENCE,
            handle_error=self._refused,
            backlog=plan.connections,
        )
        pipe.send(server.sockets[0].getsockname()[1])
        async for _ in questions(pipe):
            pipe.send(Sample.now(self._tally))
        server.close()

    def _exchange(self) -> Exchange:
        properties = replace(ALL_LAYERS, max_buffer=next(self._maxbufs))
        return LDAPBindServer(
            {
                "DIGEST-MD5": lambda: DigestMD5Server(
                    get_secret, service="ldap", host=HOST, realms=[REALM], properties=properties
                )
            }
        )

    async def _refused(self, error: Exception, writer: asyncio.StreamWriter) -> None:
        self._tally.unexpected.append(f"login: {error!r}")

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send as many octets as come."""
        self._tally.logins += 1
        try:
            number = int.from_bytes(await reader.readexactly(NUMBER_OCTETS), "big")
            theirs, ours = octets_of(number)
            while data := await reader.read(65536):
                self._tally.messages += 1
                self._tally.compare(data, theirs)
                writer.write(ours.take(len(data)))
                await writer.drain()
        except (SASLError, OSError, asyncio.IncompleteReadError) as error:
            self._tally.ended(type(error).__name__)
        except Exception as error:
            self._tally.unexpected.append(repr(error))
        finally:
            writer.close()
