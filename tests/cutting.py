"""A TCP proxy that cuts downloads at given offsets of the file, and counts what was sent for them."""

import array
import asyncio
import contextlib
import fcntl
import re
import socket
import termios
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

WINDOW_BYTES = 16 << 10  # a device's: what is under way when a connection is cut
_DOWNLOAD = re.compile(rb"GET (/firmware/\S+|\S*[?&]X-Amz-Signature=\S+) HTTP")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-\r\n", re.IGNORECASE)


class Cutter:
    """Everything passes, both ways; but a download ends when it reaches the next of `cuts`. `paths` has each that was asked for.

    `sent` counts bytes of bodies that arrived from the server, also those that were still in our buffer when we cut.
    """

    def __init__(self, url: str, cuts: Sequence[int]) -> None:
        self._to = urlsplit(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = f"{self._to.scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        self.cuts = sorted(cuts)
        self.is_cutting = True  # False: a mere proxy, whose connections may be used again
        self.sent = 0
        self.paths: list[str] = []

    async def __aenter__(self) -> Self:
        self._spawn(self._accept())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listening.close()

    def _spawn(self, coroutine: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            self._spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        loop, server = asyncio.get_running_loop(), socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        for each in (client, server):
            each.setblocking(False)
        with client, server, contextlib.suppress(OSError):
            await loop.sock_connect(server, (self._to.hostname, self._to.port))
            head = await _head(client)
            await loop.sock_sendall(server, head)
            if (asked := _DOWNLOAD.match(head)) and self.is_cutting:
                self.paths.append(asked[1].decode())
                start = _RANGE.search(head)
                await self._download(server, client, int(start[1]) if start else 0)
            else:
                await _first_ended(_pump(client, server), _pump(server, client))

    async def _download(self, server: socket.socket, client: socket.socket, at: int) -> None:
        loop = asyncio.get_running_loop()
        head, _, body = (await _head(server)).partition(b"\r\n\r\n")
        await loop.sock_sendall(client, head + b"\r\n\r\n")
        while True:
            self.sent += len(body)
            if self.cuts and at + len(body) >= self.cuts[0]:
                await loop.sock_sendall(client, body[: self.cuts.pop(0) - at])
                self.sent += _waiting(server)
                return
            await loop.sock_sendall(client, body)
            at += len(body)
            body = await loop.sock_recv(server, WINDOW_BYTES)
            if not body:
                return


async def _head(source: socket.socket) -> bytes:
    """Up to the end of the headers, and what came with it."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := await asyncio.get_running_loop().sock_recv(source, WINDOW_BYTES)):
            raise ConnectionError("it ended before its headers")
        head += piece
    return head


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while piece := await loop.sock_recv(source, 1 << 16):
        await loop.sock_sendall(sink, piece)


async def _first_ended(*ways: "asyncio._CoroutineLike[None]") -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _waiting(source: socket.socket) -> int:
    """Bytes that have arrived and were not read."""
    count = array.array("i", [0])
    fcntl.ioctl(source, termios.FIONREAD, count)
    return count[0]
