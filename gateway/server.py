"""The door devices come in by: accepts sockets, lets each speak through its session, sweeps out the silent, drains on shutdown."""

import asyncio
from typing import Final, Generic

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway import peer, protocol
from gateway.connection import A, Connection, Fleet
from gateway.proofs import new_nonce
from gateway.protocol import Closing
from gateway.session import Bucket, Limits, Session
from settings import Settings

DRAIN_STEPS: Final = 50
RESTING_MAX: Final = 100_000  # rate buckets of devices that left with theirs not full


class Gateway(Generic[A]):
    """An ASGI application for the WebSocket route `/device`, one a process.

    `connections` are all sockets of this process, `of_device` the newest admitted one of each device.
    """

    def __init__(self, fleet: Fleet[A], limits: Limits, *, connects_per_s: float) -> None:
        self.fleet = fleet
        self.limits = limits
        self.connections: set[Connection[A]] = set()
        self.of_device: dict[str, Connection[A]] = {}
        self.is_draining = False
        self._connects_per_s = connects_per_s
        self._connects: Bucket | None = None
        self._resting: dict[str, Bucket] = {}
        self._sweep_at: asyncio.TimerHandle | None = None
        self._sweep_every_s = min(1.0, limits.keep_alive_s / 10, limits.hello_timeout_s / 10)

    @classmethod
    def of(cls, fleet: Fleet[A], settings: Settings) -> "Gateway[A]":
        return cls(fleet, Limits.of(settings), connects_per_s=settings.device_connects_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        if protocol.SUBPROTOCOL not in scope.get("subprotocols", ()):
            await socket.send_denial_response(PlainTextResponse(f"Ask for the subprotocol {protocol.SUBPROTOCOL}.\n", 400))
            return
        await socket.accept(protocol.SUBPROTOCOL)
        refusal = self._refusal()
        if refusal is not None:
            await socket.close(refusal)
            return
        await self._connection(scope, send).run(receive)

    async def close_all(self, code: Closing = Closing.RESTARTING, *, over_s: float = 5.0, grace_s: float = 2.0) -> None:
        """Close every socket, spread over `over_s`; those that have not gone `grace_s` later are reset. New ones are closed at once."""
        self.is_draining = True
        left = list(self.connections)
        size = max(1, -(-len(left) // DRAIN_STEPS))
        for start in range(0, len(left), size):
            for connection in left[start : start + size]:
                connection.close(code, "restarting, come back in 0 to 10 s")
            await asyncio.sleep(over_s / DRAIN_STEPS if start + size < len(left) else 0)
        deadline = asyncio.get_running_loop().time() + grace_s
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.drop(code, "restarting")

    # ── what its connections tell it ──
    def settle(self, connection: Connection[A]) -> None:
        """The newest session wins, whichever was admitted first; the rate goes on from the former one."""
        device_id, admission = connection.device_id, connection.admission
        assert device_id is not None
        assert admission is not None
        former = self.of_device.get(device_id)
        if former is not None and former.admission is not None and former.admission.epoch > admission.epoch:
            connection.close(Closing.REPLACED, "a newer session of this device")
            return
        self.of_device[device_id] = connection
        if former is not None:
            former.close(Closing.REPLACED, "a newer session of this device")
        bucket = former.session.bucket if former is not None else self._resting.pop(device_id, None)
        connection.greet(bucket)

    def forget(self, connection: Connection[A]) -> None:
        self.connections.discard(connection)
        device_id, bucket = connection.device_id, connection.session.bucket
        if device_id is None or self.of_device.get(device_id) is not connection:
            return
        del self.of_device[device_id]
        if bucket is not None and not bucket.is_full(connection.loop.time()) and len(self._resting) < RESTING_MAX:
            self._resting[device_id] = bucket

    def _refusal(self) -> Closing | None:
        if self.is_draining:
            return Closing.RESTARTING
        now = asyncio.get_running_loop().time()
        if self._connects is None:
            self._connects = Bucket(self._connects_per_s, max(1.0, self._connects_per_s), now)
        return Closing.TOO_MANY_CONNECTS if self._connects.take(now) else None

    def _connection(self, scope: Scope, send: Send) -> Connection[A]:
        loop = asyncio.get_running_loop()
        under: peer.Peer | None = scope.get("extensions", {}).get(peer.EXTENSION)
        if under is not None:
            under.limit_messages(protocol.HELLO_FRAME_MAX_BYTES)
            under.keep_alive(self.limits.keep_alive_s)
        client = scope.get("client")
        session = Session(self.limits, new_nonce(), loop.time())
        connection: Connection[A] = Connection(self, session, send, address=client[0] if client else None, peer=under)
        self.connections.add(connection)
        if self._sweep_at is None:
            self._sweep_at = loop.call_later(self._sweep_every_s, self._sweep)
        return connection

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            connection.tick(now)
        self._resting = {device: bucket for device, bucket in self._resting.items() if not bucket.is_full(now)}
        is_needed = self.connections or self._resting
        self._sweep_at = loop.call_later(self._sweep_every_s, self._sweep) if is_needed else None
