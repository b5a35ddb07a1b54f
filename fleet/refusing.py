"""What a bulk act refused, as a value: the rest of it is done."""

from collections.abc import Sequence
from dataclasses import dataclass

from errors import CallerError, InvalidInput
from settings import IDS_MAX


class _Refusal:
    """What every refusal shows of its error."""

    __slots__ = ()
    refusal: CallerError

    @property
    def code(self) -> str:
        return self.refusal.code

    @property
    def message(self) -> str:
        return self.refusal.message


@dataclass(frozen=True, slots=True)
class Rejected(_Refusal):
    """One device of a bulk call that was left as it was, and why."""

    device_id: str
    refusal: CallerError


@dataclass(frozen=True, slots=True)
class RejectedCustomer(_Refusal):
    """A line that made no customer, counted from 1, and why."""

    line: int
    username: str
    refusal: CallerError


def require_few(device_ids: Sequence[str]) -> None:
    """Raises InvalidInput for a list that is too long for one call."""
    if len(device_ids) > IDS_MAX:
        raise InvalidInput(f"At most {IDS_MAX} devices in one call.", path=("deviceIds",))


def require_some(device_ids: Sequence[str]) -> None:
    """Raises InvalidInput for an empty list too."""
    if not device_ids:
        raise InvalidInput("Name at least one device.", path=("deviceIds",))
    require_few(device_ids)


def errors_if_nothing_done(done: Sequence[object], rejected: Sequence[Rejected]) -> list[CallerError]:
    """The refusals as errors of the payload, each once, where not one device could be served; else none."""
    if done:
        return []
    return list({(each.code, each.message): each.refusal for each in rejected}.values())
