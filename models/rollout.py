"""Staged rollouts: a version on its way to a product or a group, its stages, and every device it was offered to."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class RolloutState(StrEnum):
    DRAFT = "DRAFT"  # of a stage: not reached yet
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    HALTED = "HALTED"
    ROLLED_BACK = "ROLLED_BACK"
    FINISHED = "FINISHED"
    ABORTED = "ABORTED"


ENDED = (RolloutState.ROLLED_BACK, RolloutState.FINISHED, RolloutState.ABORTED)
OPEN_ROLLOUT_STATES = tuple(state for state in RolloutState if state not in ENDED)


class TriedState(StrEnum):
    """How a device that was offered the version stands."""

    OFFERED = "OFFERED"  # it was told to fetch it
    WATCHED = "WATCHED"  # it came back on it, and has to stay well
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LEFT = "LEFT"  # locked, moved, or gone in the middle of it; under way again once it is offered the version again


IN_FLIGHT = (TriedState.OFFERED, TriedState.WATCHED)
UNDER_WAY = "state IN ('OFFERED', 'WATCHED')"  # the same, as an index of its own (migration 0004) has it
FAILING = "failures > 0 AND state <> 'SUCCEEDED'"  # it failed, and has not succeeded since


class Rollout(Model):
    """A release in stages. Of a product at most one is open."""

    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, on_delete=fields.RESTRICT)
    firmware = fields.ForeignKeyField("models.Firmware", related_name=False, on_delete=fields.RESTRICT, db_index=True)
    group = fields.ForeignKeyField("models.DeviceGroup", related_name=False, null=True, on_delete=fields.SET_NULL, db_index=True)
    to_group = fields.BooleanField(default=False)  # with a group that is gone it is for nobody, and never for the whole product
    state = fields.CharField(20)
    stage = fields.IntField(default=0)  # the one under way, from 0
    reach = fields.CharField(8, default="")  # devices whose place (fleet/rollouts/shares.py) is below it are reached
    max_in_flight = fields.IntField()
    jitter_s = fields.IntField(default=0)
    window = fields.JSONField(null=True)  # from, to, timeZone, days: fleet/rollouts/windows.py
    forces = fields.BooleanField(default=False)  # it counts although a device puts updates off; so does the way back
    rolls_back = fields.BooleanField(default=False)  # a halt takes the devices it touched back to what they ran
    halted_because = fields.TextField(null=True)
    halted_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField()
    created_by = fields.CharField(120)  # as in the audit
    author = fields.ForeignKeyField("models.User", related_name=False, null=True, on_delete=fields.SET_NULL, db_index=True)
    approved_by = fields.ForeignKeyField("models.User", related_name=False, null=True, on_delete=fields.SET_NULL, db_index=True)
    approved_at = fields.DatetimeField(null=True)
    glass_broken_because = fields.TextField(null=True)  # an owner approved their own
    started_at = fields.DatetimeField(null=True)
    look_after = fields.DatetimeField(null=True)  # the sweep of no process looks before
    walked_to = fields.CharField(24, default="")  # the device it came to in looking for the next; "": it begins anew
    somebody_left = fields.BooleanField(default=False)  # it has met one, since it began, whom the rollout has still to reach
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        table = "rollout"
        indexes = (("product_id", "state"), ("state", "look_after"))


class RolloutStage(Model):
    """A share of the devices, counted from the start of the rollout: after 5 and 25 percent the second stage holds 20 in a hundred."""

    id = fields.IntField(primary_key=True)
    rollout = fields.ForeignKeyField("models.Rollout", related_name=False)
    number = fields.IntField()  # from 0
    percent = fields.IntField(null=True)  # up to this share, or up to this many devices
    devices = fields.IntField(null=True)
    reach = fields.CharField(8, default="")  # devices whose place is below it are in this stage, or in one before
    max_failure_percent = fields.IntField()
    healthy_for_s = fields.IntField()
    state = fields.CharField(20)
    targeted = fields.IntField(default=0)  # devices in it when it was last counted
    reached_at = fields.DatetimeField(null=True)

    class Meta:
        table = "rollout_stage"
        unique_together = (("rollout", "number"),)


class RolloutDevice(Model):
    """A device that was offered the version, and what it ran before."""

    id = fields.BigIntField(primary_key=True)
    rollout = fields.ForeignKeyField("models.Rollout", related_name=False)
    device = fields.ForeignKeyField("models.Device", related_name=False, db_index=True)
    update = fields.ForeignKeyField("models.Update", related_name=False, null=True, on_delete=fields.SET_NULL, db_index=True)
    stage = fields.IntField()
    state = fields.CharField(16)
    former_version = fields.IntField(null=True)  # what it ran when it was first offered; null: nothing that it had proved
    failures = fields.IntField(default=0)
    error = fields.TextField(null=True)
    offered_at = fields.DatetimeField()
    watched_at = fields.DatetimeField(null=True)
    watched_epoch = fields.BigIntField(null=True)  # its session when it came back on the version
    settled_at = fields.DatetimeField(null=True)

    class Meta:
        table = "rollout_device"
        unique_together = (("rollout", "device"),)
        indexes = (("rollout_id", "failures"),)
