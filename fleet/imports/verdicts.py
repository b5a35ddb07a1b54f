"""What becomes of each device of an import: the rule, as a pure function, and the few statements that carry it out for a piece."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from auth.belonging import of_the_team
from auth.viewer import Viewer
from firmware_formats.platforms import same_platform
from fleet.devices import keying
from fleet.devices.leaving import take_back
from fleet.imports.pieces import WELCOME, Former
from models.device import DeviceState
from models.importing import ImportVerdict
from models.sql import execute, is_sqlite, rows
from realtime.log import NewEntry


class Unsettled(Exception):
    """A device changed hands between two statements of a piece: judge the piece again."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an import asks for."""

    import_id: int
    product_id: int
    number: int
    organization_id: int
    platform: str
    force: bool
    dry_run: bool
    group_id: int | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """A device that was there before the line, as far as the verdict depends on it."""

    product_id: int | None
    state: str
    platform: str | None  # as reported
    customer_of: int | None  # the product whose customer owns it
    has_user: bool  # a person's own kit
    user_is_member: bool


@dataclass(slots=True)
class Outcome:
    """Verdicts of the ids that were there before; every other id is ADDED. `formers` restore what was changed."""

    verdicts: dict[str, ImportVerdict]
    formers: list[Former]
    closing: list[NewEntry] = field(default_factory=list)  # for the log: ends sessions whose keys fell

    @property
    def moved(self) -> list[str]:
        """Devices that may have a session, and now belong to the product, or are forced to."""
        return [former["id"] for former in self.formers if "forced" in former]


def verdict_of(known: Known, terms: Terms) -> ImportVerdict:
    """The rule for a device that exists and is no ACTIVE member of the product.

    Source: guide, "Adding Devices" (nobody's, or a team member's); vocabulary, "Device states and identity".
    """
    if known.customer_of not in (None, terms.product_id) or (known.has_user and not known.user_is_member):
        return ImportVerdict.CLAIMED_BY_OUTSIDER
    if known.product_id not in (None, terms.product_id) and known.state == DeviceState.ACTIVE:
        return ImportVerdict.IN_OTHER_PRODUCT
    if known.platform is not None and not same_platform(known.platform, terms.platform):
        return ImportVerdict.WRONG_PLATFORM
    return ImportVerdict.ADDED


async def take_in(ids: Sequence[str], terms: Terms) -> Outcome:
    """Give every id its verdict and, unless it is a dry run, the product its devices; inside the transaction of the piece.

    `ids` are distinct and sorted, so that two imports take their locks in one order. Raises Unsettled.
    """
    wanted = list(ids)
    fresh = 0 if terms.dry_run else await _insert(wanted, terms)
    if fresh == len(wanted):
        outcome = Outcome({}, [])
    else:
        members, others = await _members(wanted, terms), await _others(wanted, terms)
        if not terms.dry_run and fresh + len(members) + len(others) != len(wanted):
            raise Unsettled
        outcome = Outcome(dict.fromkeys(members, ImportVerdict.ALREADY_MEMBER), [])
        outcome.verdicts |= {row["id"]: verdict_of(_known(row), terms) for row in others}
        if not terms.dry_run:
            moving = [row for row in others if outcome.verdicts[row["id"]] == ImportVerdict.ADDED]
            keyless, outcome.closing = await _end_keys(moving, terms)
            outcome.formers += await _move(moving, keyless, terms)
            outcome.formers += await _force(members, terms) if terms.force else []
    if terms.group_id is not None and not terms.dry_run:
        joined = await _join([each for each in wanted if outcome.verdicts.get(each, ImportVerdict.ADDED) in WELCOME], terms)
        outcome.formers += [{"id": each, "joined": terms.group_id} for each in joined if each in outcome.verdicts]
    return outcome


def _known(row: dict[str, Any]) -> Known:
    return Known(
        product_id=row["product_id"],
        state=row["state"],
        platform=row["platform"],
        customer_of=row["customer_of"],
        has_user=row["user_owner_id"] is not None,
        user_is_member=bool(row["user_is_member"]),
    )


def _listed(place: str) -> str:
    """The ids of a list as rows of a table."""
    return f"json_each({place}) AS said" if is_sqlite() else f"unnest({place}::text[]) AS said (value)"


async def _insert(ids: list[str], terms: Terms) -> int:
    """New devices; whichever import comes first has them. The number of those that were new."""
    sql = f"""INSERT INTO device (device_id, product_id, created_at, import_id, forced)
              SELECT said.value, $2, $3, $4, $5 = 1 FROM {_listed("$1")} WHERE TRUE
              ON CONFLICT (device_id) DO NOTHING"""
    return await execute(sql, [ids, terms.product_id, terms.now, terms.import_id, int(terms.force)])


async def _members(ids: list[str], terms: Terms) -> list[str]:
    """Those that were there before: what this import has itself just inserted is not meant."""
    found = await rows(
        "SELECT device_id FROM device WHERE device_id = ANY($1) AND product_id = $2 AND state = 'ACTIVE'"
        " AND (import_id IS NULL OR import_id <> $3)",
        [ids, terms.product_id, terms.import_id],
    )
    return [row["device_id"] for row in found]


async def _others(ids: list[str], terms: Terms) -> list[dict[str, Any]]:
    """Devices that exist elsewhere, nowhere, or are kept out: with all that undo would have to restore, and held till the commit."""
    return await rows(
        "SELECT d.device_id AS id, d.product_id, d.state, d.removed_from_id, d.import_id, d.forced, d.proven, d.development,"
        " d.desired_firmware_version, d.lock_waits, d.lock_forces, d.update_failures, d.name, d.notes,"
        " d.owner_id, d.user_owner_id, d.platform,"
        " d.public_key, d.secret, d.key_team_id, d.key_person_id,"
        " c.product_id AS customer_of,"
        f" {of_the_team(person='d.user_owner_id', organization='$4', product='$2')} AS user_is_member"
        " FROM device d LEFT JOIN customer c ON c.id = d.owner_id"
        " WHERE d.device_id = ANY($1) AND (d.product_id IS NULL OR d.product_id <> $2 OR d.state <> 'ACTIVE')"
        " AND (d.import_id IS NULL OR d.import_id <> $3) ORDER BY d.device_id FOR UPDATE OF d",
        [ids, terms.product_id, terms.import_id, terms.organization_id],
    )


async def _end_keys(others: list[dict[str, Any]], terms: Terms) -> tuple[list[str], list[NewEntry]]:
    return await keying.end_strangers_keys(
        [row["id"] for row in others],
        product_id=terms.product_id,
        product_number=terms.number,
        organization_id=terms.organization_id,
        by=Viewer.house("import"),
        now=terms.now,
    )


async def _move(others: list[dict[str, Any]], keyless: list[str], terms: Terms) -> list[Former]:
    """Make them ACTIVE members; what another product gave them (groups, lock, marks) does not come along."""
    ids = [row["id"] for row in others]
    if not ids:
        return []
    strangers = [row["id"] for row in others if row["product_id"] != terms.product_id]
    left = await take_back(strangers, terms.now)
    await execute(
        "UPDATE device SET product_id = $2, state = 'ACTIVE', removed_from_id = NULL, import_id = $3,"
        " forced = ($5 = 1 AND (reported_product_id IS NULL OR reported_product_id <> $4)) WHERE device_id = ANY($1)",
        [ids, terms.product_id, terms.import_id, terms.number, int(terms.force)],
    )
    groups: dict[str, list[int]] = {}
    for row in left:
        groups.setdefault(row["device_id"], []).append(row["group_id"])
    return [_former(row, groups.get(row["id"], []), lost_key=row["id"] in keyless) for row in others]


FLAGS = ("forced", "proven", "development", "lock_waits", "lock_forces")  # 0 and 1 on SQLite
RESTORED = ("product_id", "state", "removed_from_id", "import_id", *FLAGS, "desired_firmware_version", "update_failures", "name", "notes")


KEY = ("public_key", "secret", "key_team_id", "key_person_id")


def _former(row: dict[str, Any], groups: list[int], *, lost_key: bool) -> Former:
    state = {name: bool(row[name]) if name in FLAGS else row[name] for name in RESTORED}
    key = {"key": [row[name] for name in KEY]} if lost_key else {}
    return {"id": row["id"], **state, **key, "owner_id": row["owner_id"], "groups": groups}


async def _force(members: list[str], terms: Terms) -> list[Former]:
    """The switch, for members whose firmware says another product or has said nothing yet."""
    forced = await rows(
        "UPDATE device SET forced = TRUE WHERE device_id = ANY($1) AND product_id = $2 AND NOT forced"
        " AND (reported_product_id IS NULL OR reported_product_id <> $3) RETURNING device_id",
        [members, terms.product_id, terms.number],
    )
    return [{"id": row["device_id"], "forced": False} for row in forced]


async def _join(ids: list[str], terms: Terms) -> list[str]:
    sql = f"""INSERT INTO group_membership (group_id, device_id) SELECT $2, said.value FROM {_listed("$1")} WHERE TRUE
              ON CONFLICT (group_id, device_id) DO NOTHING RETURNING device_id"""
    joined = await rows(sql, [ids, terms.group_id])
    return [row["device_id"] for row in joined]
