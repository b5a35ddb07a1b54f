"""Asking a device that is connected: calling its functions, reading its variables, finding out whether it is there."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from auth.viewer import Viewer
from errors import DeviceFailed, DeviceOffline, DeviceTimeout, FunctionUnknown, InvalidInput, RateLimited, VariableUnknown
from fleet.auditing import record
from fleet.house import House
from fleet.reaching import must_use
from models.device import Device, Presence
from models.transaction import transaction
from realtime import tallies

ARGUMENT_MAX_BYTES = 1024
TIMEOUT_S = (1, 60)


@dataclass(frozen=True, slots=True)
class _Session:
    process: str
    epoch: int


async def call_function(device: Device, name: str, *, argument: str, timeout_s: int | None, house: House, by: Viewer) -> int:
    """Call a function of the device and return its int32; it is called at most once, and nobody repeats it after a timeout.

    Raises FunctionUnknown, DeviceOffline, DeviceTimeout (whether it acted is then not known), DeviceFailed, InvalidInput.
    """
    organization_id = must_use(device, "device.call", by)
    patience_s = _patience(timeout_s, house)
    if name not in (device.functions or ()):
        raise FunctionUnknown("The device has no function of this name: its `functions` are those of its last hello.", path=("name",))
    if len(argument.encode()) > ARGUMENT_MAX_BYTES or "\0" in argument:
        raise InvalidInput(f"An argument has at most {ARGUMENT_MAX_BYTES} bytes and no NUL characters.", path=("argument",))
    session = await _session(device)
    async with transaction():  # before it is called: an act in the world that nobody wrote down would be worse than one that failed
        await record(by, "device.function_called", f"device:{device.device_id}", organization_id=organization_id, function=name)
    return int(await _ask(device, session, "call", patience_s, house, name=name, argument=argument))


async def read_variable(device: Device, name: str, *, house: House, by: Viewer) -> Any:
    """What a variable of the device holds now: any JSON value of its type.

    Raises VariableUnknown, DeviceOffline, DeviceTimeout, DeviceFailed.
    """
    must_use(device, "device.call", by)
    if name not in (device.variables or {}):
        raise VariableUnknown("The device has no variable of this name: its `variables` are those of its last hello.", path=("name",))
    return await _ask(device, await _session(device), "read", house.settings.call_timeout_s, house, name=name)


async def ping(device: Device, *, house: House, by: Viewer) -> bool:
    """Whether the device is there: True is its own answer to a ping of its socket, False that no session of it stands.

    Raises DeviceTimeout for a session whose device does not answer, or whose server process does not.
    """
    must_use(device, "device.call", by)
    try:
        session = await _session(device)
        await house.commands.ask(
            device.device_id, session.process, session.epoch, kind="ping", timeout_s=house.settings.call_timeout_s
        )  # fmt: skip
    except DeviceOffline:
        return False
    return True


async def _session(device: Device) -> _Session:
    found = await Presence.filter(device_id=device.device_id, online=True).first()
    if found is None or found.process is None:
        raise DeviceOffline("The device is offline: call again once it is back.")
    return _Session(found.process, found.epoch)


async def _ask(
    device: Device, session: _Session, kind: str, timeout_s: float, house: House, *, name: str, argument: str | None = None
) -> Any:
    try:
        answer: dict[str, Any] = await house.commands.ask(
            device.device_id, session.process, session.epoch, kind=kind, name=name, argument=argument, timeout_s=timeout_s
        )
    except DeviceTimeout:
        await _count(device)
        raise
    await _count(device)
    match answer.get("failure"):
        case None:
            return answer["value"]
        case "TOO_MANY_CALLS":
            raise RateLimited("The device has not answered earlier calls yet: wait for them.", retry_after=1.0)
        case failure:
            raise DeviceFailed(answer["message"] or "The device answered with an error.", reason=failure)


async def _count(device: Device) -> None:
    """The usage of the customer who owns the device; what nobody owns is nobody's usage."""
    owner_id = device.owner_id  # type: ignore[attr-defined]  # a Tortoise column
    if device.product is not None and owner_id is not None:
        await tallies.count_call(device.product.number, owner_id, datetime.now(UTC))


def _patience(timeout_s: int | None, house: House) -> float:
    if timeout_s is None:
        return house.settings.call_timeout_s
    least, most = TIMEOUT_S
    if not least <= timeout_s <= most:
        raise InvalidInput(f"timeoutSeconds is from {least} to {most}.", path=("timeoutSeconds",))
    return float(timeout_s)
