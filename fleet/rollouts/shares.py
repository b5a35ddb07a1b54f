"""Which share of a fleet a rollout has reached: each device has one place in each rollout, for good, whenever it joins."""

import hashlib

ALL = "g"  # beyond every place, which is eight hexadecimal digits

# The same in SQL, for statements in which `rollout` and `device` are at hand; the digits sort as text in every collation.
PLACE = "substr(md5(CAST(rollout.id AS text) || '/' || device.device_id), 1, 8)"
# A place of its own for the moment at which a device's turn comes, so that an early stage is not all at once either.
TURN = "substr(md5(CAST(rollout.id AS text) || '@' || device.device_id), 1, 8)"
FOR_ITS_GROUP = """(NOT rollout.to_group OR EXISTS (
    SELECT 1 FROM group_membership AS in_group
      JOIN group_above AS way ON way.group_id = in_group.group_id
     WHERE in_group.device_id = device.device_id AND way.above_id = rollout.group_id))"""
WITHIN_REACH = f"{PLACE} < rollout.reach"
REACHED = f"({WITHIN_REACH} AND {FOR_ITS_GROUP})"


def place(rollout_id: int, device_id: str) -> str:
    """Where a device stands in a rollout: eight hexadecimal digits, evenly spread."""
    return hashlib.md5(f"{rollout_id}/{device_id}".encode(), usedforsecurity=False).hexdigest()[:8]


def below(share: float) -> str:
    """What the places of this share of all devices, 0 to 1, are below."""
    return ALL if share >= 1 else f"{int(max(0.0, share) * (1 << 32)):08x}"


def reach(percent: int) -> str:
    return below(percent / 100)


def percent_of(reach: str) -> int:
    """What share of all places that is, in whole percents, rounded down."""
    return 100 if reach == ALL else int(reach or "0", 16) * 100 >> 32


def turn(rollout_id: int, device_id: str) -> str:
    """When a device's turn comes within the jitter: a share of it, as eight hexadecimal digits."""
    return hashlib.md5(f"{rollout_id}@{device_id}".encode(), usedforsecurity=False).hexdigest()[:8]
