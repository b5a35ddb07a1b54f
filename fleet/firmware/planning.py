"""Plans of a release: who would update, who would not and why, counted for a whole fleet in one statement, with a token for the set.

The rules are those of fleet/firmware/deciding.py; a property test holds both equal (tests/fleet/firmware/test_planning.py).
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from auth.viewer import Viewer
from errors import PlanStale
from fleet.firmware import approving
from fleet.firmware.deciding import FirmwareRule
from fleet.firmware.eligibility import not_allowed
from fleet.house import House
from fleet.rollouts import shares
from models.device import DeviceGroup
from models.firmware import Firmware
from models.product import Product
from models.rollout import OPEN_ROLLOUT_STATES
from models.sql import Params, is_sqlite, rows

GOOD_FOR = timedelta(hours=1)
_UPDATE, _RUNS = "UPDATE", "RUNS"  # verdicts beside the names of the rules that decide otherwise

# Whether the product's open rollout decides for a device: fleet/firmware/deciding.py says the same of facts.
_ROLLOUT_DECIDES = f"""(
    (rollout.state = 'RUNNING' AND ({shares.REACHED} OR tried.id IS NOT NULL))
    OR (rollout.state = 'PAUSED' AND tried.id IS NOT NULL)
    OR (rollout.state = 'HALTED' AND rollout.rolls_back AND tried.former_version IS NOT NULL)
    OR (rollout.state = 'HALTED' AND NOT rollout.rolls_back AND tried.id IS NOT NULL
        AND device.proven AND device.firmware_version = rolled.version))"""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """How many devices another rule decides for."""

    reason: FirmwareRule
    devices: int


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What releasing the version there would do, and whether one person may. `downgrades` of those that update run a higher one."""

    token: str
    firmware: Firmware
    will_update: int
    downgrades: int
    already_running: int
    excluded: list[Exclusion]
    needs_approval: bool
    release: "PlannedRelease" = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlannedRelease:
    """A release that is thought through and not made: a version to a product, or to one of its groups."""

    firmware: Firmware
    product: Product
    group: DeviceGroup | None

    def verdicts(self, values: Params) -> str:
        """SQL of device_id, what it runs, and its verdict: UPDATE, RUNS, or the rule that decides otherwise."""
        put = values.put
        version, open_states = put(self.firmware.version), put([str(state) for state in OPEN_ROLLOUT_STATES])
        runs_it = f"(device.proven AND device.firmware_version = {version})"
        groups = f"AND release.group_id <> {put(self.group.id)}" if self.group is not None else ""
        # Of a plan for a group the highest version among a device's groups decides; any of them stands before the product's release.
        higher = f"AND released.version > {version}" if self.group is not None else ""
        of_a_group = f"""EXISTS (
            SELECT 1 FROM group_membership AS membership
              JOIN group_above AS way ON way.group_id = membership.group_id
              JOIN group_release AS release ON release.group_id = way.above_id {groups}
              JOIN firmware AS released ON released.id = release.firmware_id AND released.product_id = device.product_id {higher}
             WHERE membership.device_id = device.device_id)"""
        return f"""
            SELECT device.device_id, CASE WHEN device.proven THEN device.firmware_version END AS running, CASE
                   WHEN {not_allowed(self.product, put)} THEN 'NOT_ALLOWED'
                   WHEN device.development THEN 'DEVELOPMENT'
                   WHEN device.desired_firmware_version IS NOT NULL THEN 'LOCKED'
                   WHEN {_ROLLOUT_DECIDES} THEN 'ROLLOUT'
                   WHEN {of_a_group} THEN 'GROUP_RELEASE'
                   WHEN {runs_it} THEN '{_RUNS}' ELSE '{_UPDATE}' END AS verdict
              FROM device
              LEFT JOIN presence ON presence.device_id = device.device_id
              LEFT JOIN rollout ON rollout.product_id = device.product_id AND rollout.state = ANY({open_states})
              LEFT JOIN firmware AS rolled ON rolled.id = rollout.firmware_id
              LEFT JOIN rollout_device AS tried ON tried.rollout_id = rollout.id AND tried.device_id = device.device_id
             WHERE device.product_id = {put(self.product.id)} {self._in_group(values)}"""

    def _in_group(self, values: Params) -> str:
        if self.group is None:
            return ""
        return f"""AND EXISTS (SELECT 1 FROM group_membership AS inside JOIN group_above AS way ON way.group_id = inside.group_id
             WHERE inside.device_id = device.device_id AND way.above_id = {values.put(self.group.id)})"""

    async def digest(self) -> str:
        """Of every device concerned, what it runs, and what is decided for it: another set, another digest."""
        values = Params()
        line = "device_id || ':' || verdict || ':' || COALESCE(CAST(running AS text), '-')"
        judged = f"SELECT {line} AS line FROM ({self.verdicts(values)}) AS judged"
        if is_sqlite():
            [found] = await rows(f"SELECT group_concat(line, ',') AS joined FROM ({judged} ORDER BY line) AS lines", values)
            return hashlib.sha256((found["joined"] or "").encode()).hexdigest()
        joined = "COALESCE(string_agg(line, ',' ORDER BY line COLLATE \"C\"), '')"  # of a million devices 35 MB: they stay there
        [found] = await rows(f"SELECT encode(sha256(convert_to({joined}, 'UTF8')), 'hex') AS digest FROM ({judged}) AS lines", values)
        return str(found["digest"])

    async def devices(self, count: int, after: str | None) -> list[str]:
        """The ids of up to `count` devices that will update, behind this one."""
        values = Params()
        judged = self.verdicts(values)
        beyond = f"AND device_id > {values.put(after)}" if after is not None else ""
        found = await rows(
            f"SELECT device_id FROM ({judged}) AS judged WHERE verdict = '{_UPDATE}' {beyond} ORDER BY device_id LIMIT {int(count)}",
            values,
        )
        return [row["device_id"] for row in found]

    def parts(self, digest: str, by: Viewer) -> tuple[str, ...]:
        """What a token stands for: this set for this release, seen by this viewer."""
        group = f"group {self.group.id}" if self.group is not None else "product"
        return ("plan", by.actor, str(self.product.number), str(self.firmware.version), group, digest)


async def plan_release(firmware: Firmware, *, group: DeviceGroup | None, house: House, by: Viewer) -> ReleasePlan:
    """Who would update if this were released now; the token says which set of devices that was, and is good for an hour.

    Source: features, C3.
    """
    product: Product = firmware.product
    by.must("rollout.read", product.organization.id, product.id)
    release, values = PlannedRelease(firmware, product, group), Params()
    lower = f"sum(CASE WHEN running > {values.put(firmware.version)} THEN 1 ELSE 0 END)"
    found = await rows(
        f"SELECT verdict, count(*) AS devices, {lower} AS higher FROM ({release.verdicts(values)}) AS judged GROUP BY verdict", values
    )
    counts = {row["verdict"]: row for row in found}
    token = house.signer.sign(release.parts(await release.digest(), by), expires_at=datetime.now(UTC) + GOOD_FOR)
    return ReleasePlan(
        token=token,
        firmware=firmware,
        will_update=int(counts.get(_UPDATE, {"devices": 0})["devices"]),
        downgrades=int(counts.get(_UPDATE, {"higher": 0})["higher"]),
        already_running=int(counts.get(_RUNS, {"devices": 0})["devices"]),
        excluded=[Exclusion(rule, int(counts[rule]["devices"])) for rule in FirmwareRule if rule in counts],
        needs_approval=await approving.is_demanded(product, group.id if group is not None else None),
        release=release,
    )


async def must_be_fresh(token: str, firmware: Firmware, *, group: DeviceGroup | None, house: House, by: Viewer) -> None:
    """Refuse unless the token was made by this viewer for this release, within the hour, of the very set that there is now.

    In the transaction that releases. Raises PlanStale.
    """
    release: PlannedRelease = PlannedRelease(firmware, firmware.product, group)
    if not house.signer.verify(release.parts(await release.digest(), by), token, now=datetime.now(UTC)):
        raise PlanStale("The devices, or what is decided for them, are no longer those of the plan: make a new one.", path=("planToken",))
