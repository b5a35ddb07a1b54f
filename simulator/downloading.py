"""Fetching firmware as a device does: in pieces, resumed where it was cut, believed only when size and hash are right."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import httpx

from gateway.protocol import Update
from simulator.faults import Faults

CHUNK_BYTES: Final = 16 << 10
TRIES: Final = 20  # in a row that bring nothing new
TIMEOUT_S: Final = 10.0  # without a byte


class DownloadFailed(Exception):
    """The update cannot be had; the message goes to the server as the update's error."""


class PowerCut(Exception):
    """A scripted fault: both connections are gone in the middle of a download."""


@dataclass(slots=True)
class Partial:
    """What is there of one firmware; survives a cut and a reconnect."""

    sha256: str
    received: bytearray = field(default_factory=bytearray)
    etag: str | None = None


class _StartAgain(Exception):
    """The server does not go on where we stopped."""


class Download:
    """One update being fetched. `tell` is given the percentage after each piece."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, update: Update, partial: Partial, faults: Faults, *, retry_s: float = 0.5
    ) -> None:
        self._http = http
        self._url = url
        self._update = update
        self._partial = partial
        self._faults = faults
        self._retry_s = retry_s

    async def run(self, tell: Callable[[int], Awaitable[None]]) -> bytes:
        """The firmware, complete and checked. Raises DownloadFailed, or PowerCut by script."""
        furthest, in_vain = 0, 0
        while in_vain < TRIES:
            try:
                await self._fetch(tell)
                return self._checked()
            except _StartAgain:
                self._partial.received.clear()
                self._partial.etag = None
            except httpx.TransportError:
                await asyncio.sleep(random.uniform(0.5, 1.0) * min(30.0, self._retry_s * 2**in_vain))
            in_vain = 0 if len(self._partial.received) > furthest else in_vain + 1
            furthest = max(furthest, len(self._partial.received))
        raise DownloadFailed(f"gave up after {TRIES} tries that brought nothing new")

    async def _fetch(self, tell: Callable[[int], Awaitable[None]]) -> None:
        there = len(self._partial.received)
        if there >= self._update.size and there:
            return
        headers = {"Accept-Encoding": "identity"}
        if there and self._partial.etag:
            headers |= {"Range": f"bytes={there}-", "If-Range": self._partial.etag}
        elif there:
            raise _StartAgain
        async with self._http.stream("GET", self._url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S) as response:
            self._accept(response, there)
            async for piece in response.aiter_raw():  # as it arrives: a piece held back to fill a chunk is lost in a cut
                for start in range(0, len(piece), CHUNK_BYTES):
                    await self._take(piece[start : start + CHUNK_BYTES], tell)
        if len(self._partial.received) < self._update.size:
            raise httpx.ReadError("the download ended early")

    def _accept(self, response: httpx.Response, there: int) -> None:
        if response.status_code >= 500 or response.status_code == 429:
            raise httpx.ReadError(f"the server answered {response.status_code}")
        if response.status_code == 416:
            raise _StartAgain
        if response.status_code not in (200, 206):
            raise DownloadFailed(f"the server answered {response.status_code}")
        if response.status_code == 206 and not response.headers.get("content-range", "").startswith(f"bytes {there}-"):
            raise _StartAgain
        if response.status_code == 200:
            self._partial.received.clear()
        self._partial.etag = response.headers.get("etag")

    async def _take(self, chunk: bytes, tell: Callable[[int], Awaitable[None]]) -> None:
        received = self._partial.received
        cut = int(self._faults.amount("drop-at"))
        if self._faults.has("drop-at") and len(received) + len(chunk) >= cut:
            received.extend(chunk[: max(0, cut - len(received))])
            self._faults.strikes("drop-at")
            raise PowerCut
        received.extend(chunk)
        if len(received) > self._update.size:
            received.clear()
            raise DownloadFailed("the download is larger than the update said")
        if self._faults.has("slow"):
            await asyncio.sleep(self._faults.amount("slow"))
        await tell(len(received) * 100 // max(1, self._update.size))

    def _checked(self) -> bytes:
        firmware = bytes(self._partial.received)
        if self._faults.strikes("wrong-hash"):
            firmware = bytes([firmware[0] ^ 0xFF]) + firmware[1:] if firmware else b"?"
        if hashlib.sha256(firmware).hexdigest() != self._update.sha256:
            self._partial.received.clear()
            raise DownloadFailed("the SHA-256 of what was downloaded is not the update's")
        return firmware
