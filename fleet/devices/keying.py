"""Whose word a device's key is, and when it falls: no key of a stranger comes into a product with the device."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from auth.belonging import of_the_team
from auth.viewer import Viewer
from fleet.auditing import record
from fleet.telling import KEY_CHANGED, order
from models.sql import rows
from realtime.log import NewEntry

# Nobody of the team set it, no product of theirs vouched for it at a hello, and none of them gave it to a kit of their own.
_END_STRANGE = f"""
    UPDATE device SET public_key = NULL, secret = NULL, key_team_id = NULL, key_person_id = NULL
     WHERE device_id = ANY($1) AND (public_key IS NOT NULL OR secret IS NOT NULL) AND (key_team_id IS NULL OR key_team_id <> $2)
       AND NOT {of_the_team(person="device.key_person_id", organization="$2", product="$3")}
    RETURNING device_id"""


async def end_strangers_keys(
    device_ids: Sequence[str], *, product_id: int, product_number: int, organization_id: int, by: Viewer, now: datetime
) -> tuple[list[str], list[NewEntry]]:
    """Devices that come into a product lose a key that nobody of its team stands behind: which do, and what ends their sessions.

    In the caller's transaction, which holds their rows; the entries are for the log. Their own key is then pinned by the product's
    provisioning key at the next hello, or by the team with registerDevice. Source: decision 14.
    """
    ended = sorted(row["device_id"] for row in await rows(_END_STRANGE, [list(device_ids), organization_id, product_id]))
    if ended:
        await record(by, "device.keys_ended", f"product:{product_number}", organization_id=organization_id, deviceIds=[*ended])
    return ended, [order(each, product_number, "close", now, data=KEY_CHANGED) for each in ended]


def vouch(device: Any, *, team_id: int | None = None, person_id: int | None = None) -> bool:
    """Note whose word the device's key is: a team's, or a person's on their own kit; whether that is another now."""
    changed = (device.key_team_id, device.key_person_id) != (team_id, person_id)
    device.key_team_id, device.key_person_id = team_id, person_id
    return changed
