"""What a product gave a device and takes back when the device leaves it: groups, lock, marks, and the update under way."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from models.firmware import OPEN_UPDATE_STATES
from models.sql import execute, rows


async def take_back(device_ids: Sequence[str], now: datetime) -> list[dict[str, Any]]:
    """In the transaction that takes the devices, held, out of their product or into another: the memberships they had.

    What people wrote about a device goes too, unless it is a person's own kit.
    """
    ids = [*device_ids]
    await execute(
        "UPDATE device SET development = FALSE, proven = FALSE, desired_firmware_version = NULL, lock_waits = FALSE, lock_forces = FALSE,"
        " update_failures = 0, update_blocked_until = NULL, offers = 0, offers_since = NULL,"
        " name = CASE WHEN user_owner_id IS NULL THEN NULL ELSE name END,"
        " notes = CASE WHEN user_owner_id IS NULL THEN NULL ELSE notes END WHERE device_id = ANY($1)",
        [ids],
    )
    await execute(
        "UPDATE device_update SET state = 'CANCELED', finished_at = $2 WHERE device_id = ANY($1) AND state = ANY($3)",
        [ids, now, [str(state) for state in OPEN_UPDATE_STATES]],
    )
    return await rows("DELETE FROM group_membership WHERE device_id = ANY($1) RETURNING device_id, group_id", [ids])
