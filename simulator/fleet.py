"""Many devices in one process: connected at a set pace, publishing at a set rate, with a ledger of what the server acknowledged."""

import asyncio
import hashlib
import json
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Final

import httpx

from public_keys import to_base64url
from simulator.device import SimulatedDevice
from simulator.faults import Faults
from simulator.flash import Flash

PROGRESS_EVERY_S: Final = 1.0
DOWNLOADS_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate_per_s` events of each device; `duration_s` None: until stopped; `connects_per_s` spreads the arrivals."""

    url: str
    device_ids: Sequence[str]
    product_id: int | None = None
    version: int | None = None
    platform: str = "PHOTON"
    provisioning_key: str | None = None
    rate_per_s: float = 1.0
    duration_s: float | None = None
    connects_per_s: float = 200.0
    faults: tuple[str, ...] = ()
    faulty_share: float = 1.0  # of the devices: which ones, their ids decide
    seed: str = "flotilla"


def numbered_ids(count: int) -> list[str]:
    """Ids for a fleet that has none."""
    return [f"f1077117a{number:015x}" for number in range(count)]


def simulated_key(seed: str, device_id: str) -> str:
    """The same key in every run, so that a fleet once seen is known again. A simulated key guards nothing."""
    return to_base64url(hashlib.sha256(f"{seed}\n{device_id}".encode()).digest())


def is_faulty(device_id: str, share: float) -> bool:
    """Whether the device is among this share of all, the same in every run."""
    return int(hashlib.sha256(device_id.encode()).hexdigest()[:8], 16) < share * (1 << 32)


class SimulatedFleet:
    """The devices of a plan; `run` returns the counts when the time is over or `stop` was called."""

    def __init__(self, plan: Plan, *, ledger: IO[str] | None = None, progress: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self.devices: list[SimulatedDevice] = []
        self._ledger = ledger
        self._progress = progress
        self._over = asyncio.Event()

    def stop(self) -> None:
        self._over.set()

    async def run(self) -> Counter[str]:
        limits = httpx.Limits(max_connections=DOWNLOADS_AT_ONCE)
        async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(10, pool=None), trust_env=False) as http:
            self.devices = [self._device(device_id, http) for device_id in self.plan.device_ids]
            tasks = [asyncio.create_task(self._live(device, number)) for number, device in enumerate(self.devices)]
            tasks.append(asyncio.create_task(self._report()))
            try:
                async with asyncio.timeout(self.plan.duration_s):
                    await self._over.wait()
            except TimeoutError:
                self._over.set()
            for device in self.devices:
                device.stop()
            await asyncio.gather(*tasks)
        return self.counts

    def _device(self, device_id: str, http: httpx.AsyncClient) -> SimulatedDevice:
        plan = self.plan
        flash = Flash(device_id, plan.product_id, plan.version, key=simulated_key(plan.seed, device_id))
        return SimulatedDevice(
            plan.url,
            flash,
            platform=plan.platform,
            provisioning_key=plan.provisioning_key,
            functions={"led": lambda argument: 1 if argument == "on" else 0},
            variables={"temperature": 21.5},
            faults=Faults(plan.faults if is_faulty(device_id, plan.faulty_share) else ()),
            http=http,
        )

    async def _live(self, device: SimulatedDevice, number: int) -> None:
        if await self._is_over_after(number / self.plan.connects_per_s):
            return
        running = asyncio.create_task(device.run())
        if self.plan.rate_per_s > 0:
            every_s = 1 / self.plan.rate_per_s
            wait = random.uniform(0, every_s)  # or all devices would speak in the same instant
            while not await self._is_over_after(wait):
                if device.online.is_set():
                    self._publish(device)
                wait = every_s
        await running

    async def _is_over_after(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _publish(self, device: SimulatedDevice) -> None:
        id, data = secrets.token_hex(8), f"{random.gauss(21.5, 2):.1f}"
        self._note("published", device, id, data)
        done = device.post("temperature", data, id=id)
        done.add_done_callback(lambda answer: self._note(answer.result().lower(), device, id, None))

    def _note(self, what: str, device: SimulatedDevice, id: str, data: str | None) -> None:
        self.counts[what] += 1
        if self._ledger is not None:
            line = {"at": datetime.now(UTC).isoformat(), "what": what, "device": device.flash.device_id, "id": id}
            print(json.dumps(line if data is None else line | {"name": "temperature", "data": data}), file=self._ledger)

    async def _report(self) -> None:
        while not await self._is_over_after(PROGRESS_EVERY_S):
            if self._progress is not None:
                self._progress(self.summary())

    def summary(self) -> str:
        online = sum(device.online.is_set() for device in self.devices)
        versions = Counter(device.flash.version for device in self.devices)
        refused = sum(count for what, count in self.counts.items() if what not in ("published", "acked"))
        running = " ".join(f"{version}:{count}" for version, count in sorted(versions.items(), key=lambda item: item[0] or 0))
        return (
            f"{online}/{len(self.devices)} online · {self.counts['published']} published · {self.counts['acked']} acked · {refused} refused"
            f" · versions {running}"
        )
