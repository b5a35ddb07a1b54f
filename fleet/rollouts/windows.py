"""Windows of the day in which a rollout may offer: wall-clock times in a named zone, across midnight and the changes of the clocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from errors import InvalidInput


class Weekday(StrEnum):
    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


@dataclass(frozen=True, slots=True)
class Window:
    """From inclusive, to exclusive. One that ends before it begins goes over midnight, and belongs to the day on which it begins.

    The clock on the wall decides: an hour that the clocks skip is simply missing, one they repeat counts twice.
    """

    from_: time
    to: time
    zone: ZoneInfo
    days: tuple[Weekday, ...] = tuple(Weekday)

    @classmethod
    def of(cls, from_: str, to: str, time_zone: str, days: Sequence[Weekday] | None = None) -> "Window":
        """Raises InvalidInput for what is no time of day, no known zone, or no day at all."""
        begins, ends = _time(from_, "from"), _time(to, "to")
        if begins == ends:
            raise InvalidInput("A window begins and ends at different times; for the whole day leave it out.", path=("window", "to"))
        if days is not None and not days:
            raise InvalidInput("Name at least one day, or leave the days out.", path=("window", "days"))
        return cls(begins, ends, _zone(time_zone), tuple(day for day in Weekday if days is None or day in days))

    @classmethod
    def stored(cls, kept: dict[str, Any]) -> "Window":
        return cls.of(kept["from"], kept["to"], kept["timeZone"], [Weekday(day) for day in kept["days"]])

    def to_store(self) -> dict[str, Any]:
        return {"from": f"{self.from_:%H:%M}", "to": f"{self.to:%H:%M}", "timeZone": self.zone.key, "days": [str(day) for day in self.days]}

    def is_open(self, now: datetime) -> bool:
        local = now.astimezone(self.zone)
        clock = local.time().replace(tzinfo=None)
        if self.from_ < self.to:
            return self.from_ <= clock < self.to and self._holds_on(local)
        if clock >= self.from_:
            return self._holds_on(local)
        return clock < self.to and self._holds_on(local - timedelta(days=1))  # wall-clock arithmetic: the day before, not 24 h

    def _holds_on(self, day: datetime) -> bool:
        return tuple(Weekday)[day.weekday()] in self.days


def _time(text: str, field: str) -> time:
    try:
        found = time.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or len(text) != 5:
        raise InvalidInput("A time of day is written 22:30.", path=("window", field))
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput("A zone has a name such as Europe/Vienna or UTC.", path=("window", "timeZone")) from None
