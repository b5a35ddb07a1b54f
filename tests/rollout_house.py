"""A rollout with a fleet that a test moves by hand: looks at given moments, offers, and what the devices make of them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.firmware import updating
from fleet.firmware.updating import Offer
from fleet.rollouts import advancing
from models.device import Device, Presence
from models.global_ids import read_global_id
from models.log import LogEntry
from models.product import Product
from models.rollout import IN_FLIGHT, Rollout, RolloutDevice
from models.transaction import transaction
from realtime import log
from tests.firmware_house import device, uploaded
from tests.house import HouseTester

ROLLOUT = """rollout { id state haltedBecause maxInFlight approvedBy { email }
    stages { percent maxFailurePercent healthyForSeconds state targeted inFlight succeeded failed } }"""


@dataclass
class Campaign:
    """A product with versions 1 to 3, each proven by a device that stays offline, and `fleet` devices online on version 1."""

    tester: HouseTester
    owner: str
    product_id: int
    product: Product
    fleet: list[Device]
    rollout_id: int = 0
    global_id: str = ""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    offers: dict[str, Offer] = field(default_factory=dict)  # the last of each device
    offered: int = 0  # offers made
    heard_through: int = 0

    @classmethod
    async def begin(cls, tester: HouseTester, devices: int = 10) -> "Campaign":
        owner = await tester.owner()
        product_id = await tester.product(owner)
        await uploaded(tester, owner, product_id, 1, 2, 3)
        for version in (1, 2, 3):
            await device(product_id, 9000 + version, version=version)
        fleet = [await device(product_id, number, version=1, online=True) for number in range(devices)]
        return cls(tester, owner, product_id, await Product.get(number=product_id), fleet)

    async def start(self, *stages: tuple[int, int, int], token: str | None = None, **terms: Any) -> dict[str, Any]:
        """The payload of startRollout; stages are percent, maxFailurePercent, healthyForSeconds; without any, one of 100, 0, 60."""
        named = [dict(zip(("percent", "maxFailurePercent", "healthyForSeconds"), each, strict=True)) for each in stages or ((100, 0, 60),)]
        given = {"productId": self.product_id, "version": 2, "maxInFlight": 3, **terms}
        payload = await self.tester.do("startRollout", ROLLOUT, token or self.owner, stages=named, **given)
        if payload["rollout"] is not None:
            self.global_id = payload["rollout"]["id"]
            self.rollout_id = int(read_global_id(self.global_id)[1])
        return payload

    async def steer(self, mutation: str, token: str | None = None) -> dict[str, Any]:
        return await self.tester.do(mutation, ROLLOUT, token or self.owner, id=self.global_id)

    async def shown(self) -> dict[str, Any]:
        found = await self.tester.ask(f"query ($id: ID!) {{ rollout: node(id: $id) {{ ... on Rollout {ROLLOUT[8:]} }} }}", self.owner, id=self.global_id)  # fmt: skip
        rollout: dict[str, Any] = found["rollout"]
        return rollout

    async def state(self) -> str:
        return str((await Rollout.get(id=self.rollout_id)).state)

    # ── the server's side ──
    async def look(self, *, after_s: float = 1) -> None:
        self.now += timedelta(seconds=after_s)
        await Presence.filter(online=True).update(last_heard=self.now)  # who is on the line is heard
        await advancing.advance(self.rollout_id, self.product.id, self.now)

    async def told(self) -> list[str]:
        """The devices whose sessions were told to look since the last time."""
        found = await LogEntry.filter(kind="order", name__in=("consider", "release"), position__gt=self.heard_through).order_by("position")
        self.heard_through = found[-1].position if found else self.heard_through
        everybody = [row.device_id for row in self.fleet]
        return list(dict.fromkeys(each for entry in found for each in ([entry.device_id] if entry.device_id else everybody)))

    async def asks(self, device_id: str, **options: bool) -> Offer | None:
        offer = await updating.next_offer(device_id, **{"updates_enabled": True, "house": self.tester.house, **options})  # type: ignore[arg-type]
        if offer is not None:
            self.offers[device_id] = offer
            self.offered += 1
        return offer

    async def deliver(self) -> list[str]:
        """Every session that was told looks; the devices that were offered something."""
        return [device_id for device_id in await self.told() if await self.asks(device_id) is not None]

    # ── the devices' side ──
    async def comes_back(self, device_id: str, version: int) -> None:
        """It installs what it was offered, and its next hello reports `version`."""
        await updating.reported(device_id, self.offers[device_id].update_id, "INSTALLING", None, None, house=self.tester.house)
        await self.hello(device_id, version)

    async def hello(self, device_id: str, version: int) -> None:
        row = await Device.get(device_id=device_id)
        session = await Presence.get(device_id=device_id)
        session.epoch, session.last_handshake_at, session.online, session.last_heard = session.epoch + 1, self.now, True, self.now
        await session.save()
        before = row.firmware_version
        async with transaction():
            row.firmware_version, row.proven = version, True
            await row.save(update_fields=["firmware_version", "proven"])
            await log.append(*await updating.settle_at_hello(row, previous_version=before, now=datetime.now(UTC)))

    async def rounds(self, count: int = 40, *, outcome: Any = lambda device_id: 2, after_s: float = 61) -> None:
        """Look, deliver and let every device offered something come back on `outcome(device_id)`, until the rollout has ended."""
        for _ in range(count):
            await self.look(after_s=after_s)
            for device_id in await self.deliver():
                version = self.offers[device_id].version
                await self.comes_back(device_id, outcome(device_id) if version == 2 else version)
            if await self.state() not in ("RUNNING", "HALTED"):
                return

    async def in_flight(self) -> int:
        return await RolloutDevice.filter(rollout_id=self.rollout_id, state__in=IN_FLIGHT).count()

    async def running(self) -> list[int]:
        return [row.firmware_version or 0 for row in await Device.filter(device_id__in=[row.device_id for row in self.fleet])]
