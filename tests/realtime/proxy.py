"""A TCP proxy that tests put before a server: to take it away and bring it back, to let it fall silent, or to be a bad line."""

import asyncio
import contextlib
import itertools
import random
import socket
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers import free_port

RECEIVE_BYTES = 16 << 10  # what a slow line takes into its hands
RETRANSMIT_S = 0.2  # until a lost packet is sent again, and twice as long each further time: what TCP makes of loss


class Proxy:
    """Its port stays the same whatever happens behind it. While it is frozen connections stay open and nothing passes.

    With several URLs each new connection goes to the next server that takes it, as a load balancer would send it. Of what the server
    says at most `bytes_per_s` pass on each connection; of what is said to it the part `loss` is late, as if packets were lost.
    """

    def __init__(self, url: str, *others: str, bytes_per_s: int = 0, loss: float = 0.0) -> None:
        self._url = urlsplit(url)
        self._servers = itertools.cycle([(each.hostname, each.port) for each in map(urlsplit, (url, *others))])
        self._count = 1 + len(others)
        self._port = free_port()  # of those that nobody gets by chance while it is down
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self._marker, self._released = b"", asyncio.Event()
        self.holds = asyncio.Event()  # something is held
        self.bytes_per_s, self.loss = bytes_per_s, loss
        self.thaw()

    @property
    def url(self) -> str:
        user = f"{self._url.username}@" if self._url.username else ""
        return urlunsplit(self._url._replace(netloc=f"{user}127.0.0.1:{self._port}"))

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.thaw()
        await self.down()

    async def up(self, url: str | None = None) -> None:
        """Accept connections, from now on to the server at `url` if one is given."""
        if url:
            self._url = urlsplit(url)
            self._servers, self._count = itertools.cycle([(self._url.hostname, self._url.port)]), 1
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Reset every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection; new ones are accepted as before."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self, *, there: bool = True, back: bool = True) -> None:
        """Let nothing pass on the way there, on the way back, or on both."""
        for passing, is_frozen in ((self._there, there), (self._back, back)):
            passing.clear() if is_frozen else passing.set()

    def thaw(self) -> None:
        self.freeze(there=False, back=False)

    def forget(self) -> None:
        """Thaw for new connections alone: those of before stay silent for ever, as behind a firewall that has lost its table."""
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self.thaw()

    def hold(self, marker: bytes) -> None:
        """Keep back, until `release`, whatever is said to the server after these bytes on the same connection, and they themselves."""
        self._marker, self._released = marker, asyncio.Event()
        self.holds.clear()

    def release(self) -> None:
        self._marker = b""
        self._released.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            answers, there = await self._connect()
            self._writers |= {writer, there}
            for source, sink, passing in ((reader, there, self._there), (answers, writer, self._back)):
                task = asyncio.create_task(self._pass_on(source, sink, passing))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return
        writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(self._count - 1):
            with contextlib.suppress(OSError):
                return await self._open(*next(self._servers))
        return await self._open(*next(self._servers))

    async def _open(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.bytes_per_s:
            return await asyncio.open_connection(host, port)
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, (host, port))
        return await asyncio.open_connection(sock=line, limit=RECEIVE_BYTES)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        is_there = passing is self._there
        try:
            while piece := await source.read(65536 if is_there or not self.bytes_per_s else max(1024, self.bytes_per_s // 32)):
                await passing.wait()
                await (self._on_the_way_there(piece) if is_there else self._on_the_way_back(piece))
                sink.write(piece)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(sink)
            sink.transport.abort()

    async def _on_the_way_there(self, piece: bytes) -> None:
        if self._marker and self._marker in piece:
            self.holds.set()
            await self._released.wait()
        late_s = RETRANSMIT_S
        while random.random() < self.loss:
            await asyncio.sleep(late_s)
            late_s *= 2

    async def _on_the_way_back(self, piece: bytes) -> None:
        if self.bytes_per_s:
            await asyncio.sleep(len(piece) / self.bytes_per_s)
