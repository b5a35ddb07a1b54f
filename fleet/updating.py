"""Bringing devices to the version they should run: what is offered, how it goes, and what a hello settles."""

from dataclasses import dataclass
from datetime import datetime

from fleet.house import House
from models.device import Device
from realtime.log import NewEntry


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device is told to fetch; `url` is a path of this server."""

    update_id: str
    sequence: int
    version: int
    url: str
    size: int
    sha256: str
    signature: str | None
    expires_at: datetime


async def next_offer(device_id: str, *, updates_enabled: bool, house: House, at_hello: bool = False) -> Offer | None:
    """What the device should run and does not; None if there is nothing to say. `at_hello`: a session's first look."""
    return None


async def reported(device_id: str, update_id: str, state: str, progress: int | None, error: str | None, *, house: House) -> None:
    """How the device says an update goes."""


async def settle_at_hello(device: Device, *, previous_version: int | None, now: datetime) -> list[NewEntry]:
    """Finish what was under way, in the connecting transaction; what the log is to be told."""
    return []


async def went_away(device_id: str) -> None:
    """What was on offer waits for the next hello."""
