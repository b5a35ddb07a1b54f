"""Inputs and answers of calls as text: to compare what was asked, and to answer again what was answered."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tortoise.models import Model

from auth.viewer import Viewer
from billing.cards import Setup
from errors import CallerError, NotFound
from fleet import scope
from fleet.billing import bills
from fleet.billing.bills import Bill
from fleet.refusing import Rejected, RejectedCustomer

CHUNK_BYTES = 1 << 20

Find = Callable[[Viewer, Any], Awaitable[Model]]

# How a viewer reaches a row again, by its class: nothing is answered to whoever may not see it any more.
FIND: Mapping[str, Find] = {
    "ApiUser": scope.api_user,
    "Customer": scope.customer,
    "Device": scope.device,
    "DeviceGroup": scope.group_by_id,
    "Firmware": scope.firmware_by_id,
    "Import": scope.device_import,
    "Organization": scope.organization_by_id,
    "Product": scope.product_by_id,
    "Rollout": scope.rollout,
    "Token": scope.own_token,
}


# ── what was asked ──
async def input_of(value: Any) -> object:
    """A value of an input as plain JSON, the same for equal ones: of a file the bytes count, not its name."""
    if isinstance(value, Mapping):
        return {name: await input_of(each) for name, each in value.items()}
    if isinstance(value, list):
        return [await input_of(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if hasattr(value, "read"):
        return {"sha256": await _sha256(value)}
    if value is None or isinstance(value, str | int | float):  # enums of ours are strings
        return value
    return await input_of(vars(value))  # an input inside the input


async def _sha256(file: Any) -> str:
    """Of a file as the transport hands it over, left at its beginning for the door to read."""
    digest = hashlib.sha256()
    while chunk := await file.read(CHUNK_BYTES):
        digest.update(chunk)
    await file.seek(0)
    return digest.hexdigest()


# ── what was answered ──
def pack(answer: Mapping[str, Any]) -> str:
    """Rows by their keys, everything else as it is. Raises TypeError for what unpack() could not give back."""
    return json.dumps({name: _packed(value) for name, value in answer.items()})


async def unpack(text: str, by: Viewer) -> dict[str, Any]:
    """The answer of `pack`, rows as they are now and as far as this viewer can reach them. Raises NotFound."""
    try:
        return {name: await _unpacked(value, by) for name, value in json.loads(text).items()}
    except NotFound:
        sentence = "What the first call with this key answered is gone, or you may not see it any more."
        raise NotFound(sentence, path=("idempotencyKey",)) from None


def _packed(value: Any) -> object:
    if isinstance(value, list | tuple):
        return [_packed(each) for each in value]
    if isinstance(value, Rejected):
        return {"rejected": [value.device_id, value.code, value.message]}
    if isinstance(value, RejectedCustomer):
        return {"rejected_customer": [value.line, value.username, value.code, value.message]}
    if isinstance(value, datetime):
        return {"time": value.astimezone(UTC).isoformat()}
    if isinstance(value, Bill):
        return {"bill": value.organization.pk}
    if isinstance(value, Setup):
        return {"setup": {name: _packed(each) for name, each in asdict(value).items()}}
    if isinstance(value, Model):
        kind = type(value).__name__
        if kind not in FIND:
            raise TypeError(f"A {kind} in an answer cannot be found again.")
        return {"row": [kind, value.pk]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"A {type(value).__name__} in an answer cannot be remembered.")


async def _unpacked(value: Any, by: Viewer) -> Any:
    match value:
        case {"rejected": [device_id, code, message]}:
            return Rejected(device_id, _refusal(code, message))
        case {"rejected_customer": [line, username, code, message]}:
            return RejectedCustomer(line, username, _refusal(code, message))
        case {"time": text}:
            return datetime.fromisoformat(text)
        case {"bill": organization_id}:
            return await bills.bill(await scope.organization_by_id(by, organization_id), by=by)
        case {"setup": dict(fields)}:
            return Setup(**{name: await _unpacked(each, by) for name, each in fields.items()})
        case {"row": [kind, key]}:
            return await FIND[kind](by, key)
        case list():
            return [await _unpacked(each, by) for each in value]
    return value


def _refusal(code: str, message: str) -> CallerError:
    refusal = CallerError(message)
    refusal.code = code
    return refusal
