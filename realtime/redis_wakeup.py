"""Wake-ups through Redis or Valkey: publish and subscribe, supervised; nothing is kept there that may not be lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from realtime.remote_wakeup import PROBE_ANSWER_S, PROBE_S, RemoteWakeup

CONNECT_S = 1.0  # seconds


class RedisWakeup(RemoteWakeup):
    """Two connections: one that listens, one that sends.

    The library reconnects a subscription silently, and what was published meanwhile is gone without an error; so each of its
    subscribe notices wakes everybody, and its retries are off: it is this class that connects again.
    """

    outages = (OSError, aioredis.RedisError)

    def __init__(self, url: str, *, topic: str = "flotilla") -> None:
        super().__init__(topic)
        self._url = url
        self._sending = self._client()

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        await self._sending.aclose()

    def _client(self) -> aioredis.Redis:
        return aioredis.Redis.from_url(
            self._url,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=CONNECT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=True,
        )

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Callable[[], Any]]:
        async with self._client() as client, client.pubsub() as subscription:
            async with asyncio.timeout(CONNECT_S):
                await subscription.subscribe(self._topic)
            yield lambda: self._read(subscription)

    async def _read(self, subscription: Any) -> None:
        while True:
            message = await self._next(subscription)
            if message["type"] == "message":
                self._received(message["data"])
            elif message["type"] == "subscribe":
                self._ring_everybody()

    async def _next(self, subscription: Any) -> dict[str, Any]:
        """The next message; a server that says nothing is asked, and one that does not answer is lost."""
        message = await subscription.get_message(timeout=PROBE_S)
        if message is None:
            async with asyncio.timeout(PROBE_ANSWER_S):
                await subscription.ping()
            message = await subscription.get_message(timeout=PROBE_ANSWER_S)
        if message is None:
            raise ConnectionError("Redis does not answer.")
        found: dict[str, Any] = message
        return found

    async def _send(self, payload: str) -> None:
        await self._sending.publish(self._topic, payload)
