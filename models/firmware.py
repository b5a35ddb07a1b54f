"""Firmware of a product, what is released, and each try to bring a device to a version."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class UpdateState(StrEnum):
    PENDING = "PENDING"
    OFFERED = "OFFERED"
    DOWNLOADING = "DOWNLOADING"
    INSTALLING = "INSTALLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    BLOCKED = "BLOCKED"


OPEN_UPDATE_STATES = (UpdateState.PENDING, UpdateState.OFFERED, UpdateState.DOWNLOADING, UpdateState.INSTALLING)


class Firmware(Model):
    """One uploaded binary of a product; its bytes lie in blobs under `sha256`."""

    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, on_delete=fields.RESTRICT)
    version = fields.IntField()
    display_version = fields.CharField(100, null=True)  # what the file says of itself, where that is not the integer
    title = fields.CharField(100)
    title_key = fields.CharField(200)  # what equality means for titles: NFKC, casefold
    description = fields.TextField(default="")
    format = fields.CharField(16)
    verified = fields.BooleanField()  # the binary itself says this product and version
    file_name = fields.CharField(255)
    size = fields.IntField()
    sha256 = fields.CharField(64, db_index=True)
    signature = fields.CharField(86, null=True)  # detached Ed25519, base64url
    uploaded_at = fields.DatetimeField()
    uploaded_by = fields.ForeignKeyField("models.User", related_name=False, null=True, on_delete=fields.SET_NULL)
    released_at = fields.DatetimeField(null=True)  # the first time; once set the firmware is never deleted
    damaged_at = fields.DatetimeField(null=True)  # the stored bytes were found to be others than `sha256`; null while they are sound

    class Meta:
        table = "firmware"
        unique_together = (("product", "version"), ("product", "title_key"))


class ProductRelease(Model):
    """The version a product's devices should run. No row: nothing is released.

    A row of its own, so that the database itself refuses to delete firmware that is released.
    """

    product = fields.OneToOneField("models.Product", related_name=False, primary_key=True)
    firmware = fields.ForeignKeyField("models.Firmware", related_name=False, on_delete=fields.RESTRICT, db_index=True)
    released_at = fields.DatetimeField()
    immediate = fields.BooleanField(default=False)  # else devices online at that moment wait for their next hello
    forces = fields.BooleanField(default=False)  # it counts although a device puts updates off

    class Meta:
        table = "product_release"


class GroupRelease(Model):
    """The version a group's devices should run."""

    group = fields.OneToOneField("models.DeviceGroup", related_name=False, primary_key=True)
    firmware = fields.ForeignKeyField("models.Firmware", related_name=False, on_delete=fields.RESTRICT, db_index=True)
    released_at = fields.DatetimeField()
    immediate = fields.BooleanField(default=False)
    forces = fields.BooleanField(default=False)

    class Meta:
        table = "group_release"


class Update(Model):
    """One try to bring a device to a version."""

    id = fields.BigIntField(primary_key=True)
    device = fields.ForeignKeyField("models.Device", related_name=False)
    firmware = fields.ForeignKeyField("models.Firmware", related_name=False, on_delete=fields.RESTRICT, db_index=True)
    state = fields.CharField(16)
    by_hand = fields.BooleanField(default=False)  # lockAndFlash NOW: offered even to a development device
    progress = fields.IntField(default=0)  # percent of the download
    attempt = fields.IntField(default=0)  # offers so far
    error = fields.TextField(null=True)
    sequence = fields.IntField(default=0)  # of the last offer
    started_at = fields.DatetimeField()
    offered_at = fields.DatetimeField(null=True)
    finished_at = fields.DatetimeField(null=True)

    class Meta:
        table = "device_update"
        indexes = (("device_id", "id"), ("state", "offered_at"))
