"""Plans of a release: what it would do, before it does it."""

import strawberry

import resolvers.planning as doors
from fleet.firmware.deciding import FirmwareRule
from schema.fields import AFTER, FIRST, Connection, asked, described
from schema.firmware import Firmware
from schema.lazies import DeviceRef


@strawberry.type(description="Devices that a release would leave as they are, since another rule decides for them.")
class PlanExclusion:
    reason: FirmwareRule = described("The rule that decides.")
    devices: int = described("For how many.")


@strawberry.type(description="What a release would do now.")
class ReleasePlan:
    token: str = described("Give it to releaseFirmware: it refuses if anything of this has changed. For you alone, for an hour.")
    firmware: Firmware = described("The version.")
    will_update: int = described("How many devices it would bring to the version, each at its next hello unless it is immediate.")
    downgrades: int = described("How many of those run a higher version now.")
    already_running: int = described("How many run it already and would stay on it.")
    excluded: list[PlanExclusion] = described("All the others of the product or group, by the rule that decides for them.")
    needs_approval: bool = described("Whether it needs a second person: releaseFirmware refuses it, and a rollout waits for somebody else.")
    devices: Connection[DeviceRef] = asked(doors.devices, "Those that would update, by their ids.", first=FIRST, after=AFTER)
