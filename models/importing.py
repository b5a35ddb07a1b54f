"""Imports of devices, and their verdicts kept in pieces of many lines."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class ImportState(StrEnum):
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    UNDONE = "UNDONE"


class ImportVerdict(StrEnum):
    ADDED = "ADDED"
    ALREADY_MEMBER = "ALREADY_MEMBER"
    DUPLICATE_LINE = "DUPLICATE_LINE"
    INVALID_ID = "INVALID_ID"
    CLAIMED_BY_OUTSIDER = "CLAIMED_BY_OUTSIDER"
    IN_OTHER_PRODUCT = "IN_OTHER_PRODUCT"
    WRONG_PLATFORM = "WRONG_PLATFORM"


class Import(Model):
    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, db_index=True)
    group = fields.ForeignKeyField("models.DeviceGroup", related_name=False, null=True, on_delete=fields.SET_NULL)
    state = fields.CharField(16, default=ImportState.RUNNING)
    force = fields.BooleanField(default=False)
    dry_run = fields.BooleanField(default=False)
    source = fields.TextField(null=True)  # the name that blobs keeps the lines under; null when done
    next_offset = fields.BigIntField(default=0)  # bytes of the source already judged: where a restart goes on
    next_line = fields.IntField(default=1)
    total = fields.IntField(default=0)
    processed = fields.IntField(default=0)
    added = fields.IntField(default=0)
    rejected = fields.IntField(default=0)
    created_by = fields.CharField(120)  # as in the audit
    created_at = fields.DatetimeField()
    finished_at = fields.DatetimeField(null=True)
    undone_at = fields.DatetimeField(null=True)
    error = fields.TextField(null=True)

    class Meta:
        table = "device_import"


class ImportPiece(Model):
    """The verdicts of one stretch of lines, packed: a million lines are a hundred rows, not a million."""

    id = fields.BigIntField(primary_key=True)
    job = fields.ForeignKeyField("models.Import", related_name=False)
    first_line = fields.IntField()
    lines = fields.IntField()
    rejected = fields.IntField()
    verdicts = fields.BinaryField()  # fleet/imports/pieces.py knows the packing

    class Meta:
        table = "import_piece"
        unique_together = (("job", "first_line"),)
