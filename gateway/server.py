"""The door devices come in by: accepts sockets, lets each speak through its session, sweeps out the silent, drains on shutdown."""

import asyncio
from typing import Final, Generic

from gateway.connection import A, Connection, Fleet, Wire
from gateway.proofs import new_nonce
from gateway.protocol import Closing
from gateway.session import Bucket, Limits, Session
from realtime.pacing import spread
from settings import Settings

DRAIN_STEPS: Final = 50
LEAVING_S: Final = 0.5  # for the goodbyes of those that were reset at the end; what is not written by then, the lease writes
RESTING_MAX: Final = 100_000  # rate buckets of devices that left with theirs not full


class Gateway(Generic[A]):
    """One a process; gateway/upgrade.py brings it the sockets of the path /device.

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
        self._kept: set[asyncio.Task[None]] = set()  # under way for connections, some of which have gone already
        self._sweep_at: asyncio.TimerHandle | None = None
        self._sweep_every_s = min(1.0, limits.keep_alive_s / 10, limits.hello_timeout_s / 10)

    @classmethod
    def of(cls, fleet: Fleet[A], settings: Settings) -> "Gateway[A]":
        return cls(fleet, Limits.of(settings), connects_per_s=settings.device_connects_per_s)

    def open(self, wire: Wire, address: str | None) -> Connection[A] | None:
        """A device's socket is open: greet it with a challenge. None for one that is turned away, and closed already."""
        refusal = self._refusal()
        if refusal is not None:
            wire.close(refusal, "come back later")
            return None
        loop = asyncio.get_running_loop()
        connection: Connection[A] = Connection(self, Session(self.limits, new_nonce(), loop.time()), wire, address=address)
        self.connections.add(connection)
        if self._sweep_at is None:
            self._sweep_at = loop.call_later(self._sweep_every_s, self._sweep)
        connection.open()
        return connection

    async def close_all(self, code: Closing = Closing.RESTARTING, *, over_s: float = 5.0, grace_s: float = 2.0) -> None:
        """Close every socket, spread over `over_s`; whoever has not gone `grace_s` after that is reset. New ones are closed at once."""
        self.is_draining = True
        clock = asyncio.get_running_loop().time
        deadline = clock() + over_s + grace_s
        async for some in spread(list(self.connections), over_s, parts=DRAIN_STEPS):
            for connection in some:
                connection.close(code, "restarting, come back in 0 to 10 s")
        while self.connections and clock() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.drop(code, "restarting")
        leaving = self.fleet.leaving
        if last := [*self._kept, *([] if leaving is None else [leaving])]:
            await asyncio.wait(last, timeout=LEAVING_S)

    # ── what its connections tell it ──
    def settle(self, connection: Connection[A]) -> None:
        """The newest session wins, whichever was admitted first; the rate goes on from the former one."""
        admission = connection.admission
        assert admission is not None
        former = self.of_device.get(admission.device_id)
        if former is not None and former.admission is not None and former.admission.epoch > admission.epoch:
            connection.close(Closing.REPLACED, "a newer session of this device")
            return
        self.of_device[admission.device_id] = connection
        if former is not None:
            former.close(Closing.REPLACED, "a newer session of this device")
        bucket = former.session.bucket if former is not None else self._resting.pop(admission.device_id, None)
        connection.greet(bucket)

    def forget(self, connection: Connection[A]) -> None:
        self.connections.discard(connection)
        admission, bucket = connection.admission, connection.session.bucket
        if admission is None or self.of_device.get(admission.device_id) is not connection:
            return
        del self.of_device[admission.device_id]
        if bucket is not None and not bucket.is_full(connection.loop.time()) and len(self._resting) < RESTING_MAX:
            self._resting[admission.device_id] = bucket

    def keep(self, task: asyncio.Task[None]) -> None:
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _refusal(self) -> Closing | None:
        if self.is_draining:
            return Closing.RESTARTING
        now = asyncio.get_running_loop().time()
        if self._connects is None:
            self._connects = Bucket(self._connects_per_s, max(1.0, self._connects_per_s), now)
        return Closing.TOO_MANY_CONNECTS if self._connects.take(now) else None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            if connection.due <= now:
                connection.tick(now)
        self._resting = {device: bucket for device, bucket in self._resting.items() if not bucket.is_full(now)}
        is_needed = self.connections or self._resting
        self._sweep_at = loop.call_later(self._sweep_every_s, self._sweep) if is_needed else None
