"""Devices, what is known of their presence, and the groups they are in."""

from datetime import datetime, timedelta
from enum import StrEnum

from tortoise import fields
from tortoise.models import Model

FLAPPING = 10  # connects within an hour; with more, the device is flapping


class DeviceState(StrEnum):
    ACTIVE = "ACTIVE"
    QUARANTINED = "QUARANTINED"
    DENIED = "DENIED"


class Device(Model):
    """The hardware. `device_id` is 24 lower-case hexadecimal digits and the key everywhere.

    The defaults stand in the database too: an import names only the columns it knows.
    What changes with every frame (online, last heard) is in Presence: an update here would wear the table's indexes.
    """

    device_id = fields.CharField(24, primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False, null=True, on_delete=fields.RESTRICT)
    state = fields.CharField(16, default=DeviceState.ACTIVE, db_default="ACTIVE")
    created_at = fields.DatetimeField()
    name = fields.CharField(100, null=True)
    notes = fields.TextField(null=True)
    serial_number = fields.CharField(100, null=True)
    platform = fields.CharField(16, null=True)  # as reported; null until the first hello
    development = fields.BooleanField(default=False, db_default=False)
    forced = fields.BooleanField(default=False, db_default=False)  # treated as the product's whatever it reports
    removed_from = fields.ForeignKeyField("models.Product", related_name=False, null=True, on_delete=fields.SET_NULL)
    import_id = fields.IntField(null=True)  # the import that added it to its product

    owner = fields.ForeignKeyField("models.Customer", related_name=False, null=True, on_delete=fields.RESTRICT)
    user_owner = fields.ForeignKeyField("models.User", related_name=False, null=True, on_delete=fields.RESTRICT)
    claimed_at = fields.DatetimeField(null=True)
    owned_from = fields.BigIntField(default=0, db_default=0)  # the log's position of the hand-over: its owner sees nothing before

    public_key = fields.CharField(43, null=True)  # Ed25519, base64url without padding
    secret = fields.TextField(null=True)  # sealed (auth/sealing.py); for devices without Ed25519
    key_team_id = fields.IntField(null=True)  # the organization that vouched for the key: its team, or its product's provisioning key
    key_person_id = fields.IntField(null=True)  # or the user who gave their own kit the key: fleet/devices/keying.py

    reported_product_id = fields.IntField(null=True)
    firmware_version = fields.IntField(null=True)  # as reported at the last hello
    proven = fields.BooleanField(default=False, db_default=False)  # firmware_version was reported at an authenticated hello as this product
    functions = fields.JSONField(null=True)  # list of names
    variables = fields.JSONField(null=True)  # name -> type

    desired_firmware_version = fields.IntField(null=True)  # the lock
    lock_waits = fields.BooleanField(default=False, db_default=False)  # ON_RESET: the lock is in force from the next hello on
    lock_forces = fields.BooleanField(default=False, db_default=False)  # the lock counts although the device puts updates off
    update_sequence = fields.IntField(default=0, db_default=0)  # grows with every desired-state message sent to it
    update_failures = fields.IntField(default=0, db_default=0)  # in a row, towards the block
    update_blocked_until = fields.DatetimeField(null=True)
    offers = fields.IntField(default=0, db_default=0)  # since `offers_since`: too many in a short time block it, too
    offers_since = fields.DatetimeField(null=True)

    class Meta:
        table = "device"
        indexes = (  # the first four are the orders of the device list
            ("product_id", "device_id"),
            ("product_id", "firmware_version", "device_id"),
            ("product_id", "name", "device_id"),
            ("product_id", "created_at", "device_id"),
            ("product_id", "state", "device_id"),
            ("owner_id",),
            ("user_owner_id",),
            ("removed_from_id",),
        )


class Presence(Model):
    """Whether a device is connected, where, and since when. No row: it never connected.

    The last four columns are the device's own, kept equal by the triggers of the tallies: what is online is counted, and listed by
    when it was last heard, without a look at the device.
    """

    device = fields.OneToOneField("models.Device", related_name=False, primary_key=True)
    online = fields.BooleanField()
    process = fields.CharField(32, null=True)  # the server process that holds the session
    epoch = fields.BigIntField()  # the session; what an older one still says is ignored
    last_heard = fields.DatetimeField()
    last_handshake_at = fields.DatetimeField()
    last_ip_address = fields.CharField(45, null=True)
    connects_since = fields.DatetimeField()  # the hour being counted
    connects = fields.IntField()  # within that hour; above 10 the device is flapping
    announced = fields.BooleanField(default=False, db_default=False)  # what the log said last: online or not
    announced_at = fields.DatetimeField(null=True)
    announce_at = fields.DatetimeField(null=True)  # when the log must be told, if it is then still wrong; null: nothing is owed

    product_id = fields.IntField(null=True)
    state = fields.CharField(16, null=True)
    firmware_version = fields.IntField(null=True)
    proven = fields.BooleanField(null=True)

    class Meta:
        table = "presence"
        indexes = (("process", "online"), ("product_id", "last_heard", "device_id"), ("announce_at",))

    def flapping_at(self, now: datetime) -> bool:
        """Whether it connects so often that the log is told of it more seldom. Source: reliability, rule 14 of "OTA safety rules"."""
        return is_flapping(self.connects, self.connects_since, now)


def is_flapping(connects: int, since: datetime, now: datetime) -> bool:
    """Whether so many connects in the hour that began at `since` are too many."""
    return connects > FLAPPING and now - since < timedelta(hours=1)


class DeviceTally(Model):
    """A part of the number of a product's devices of one kind: the sum of all parts of a kind is the number.

    Triggers write the parts in the transaction that changes a device or its presence (migration 0002), so that nothing forgets to,
    and each as a row of its own, so that nobody waits for anybody. fleet/devices/counting.py reads them and folds many into one.
    """

    id = fields.BigIntField(primary_key=True)
    product_id = fields.IntField()
    state = fields.CharField(16)
    firmware_version = fields.IntField(null=True)
    proven = fields.BooleanField()
    devices = fields.IntField()
    online = fields.IntField()

    class Meta:
        table = "device_tally"
        indexes = (("product_id", "state", "firmware_version", "proven"),)


class DeviceGroup(Model):
    """A named set of a product's devices. `path` is the names from the top joined by "/"."""

    id = fields.IntField(primary_key=True)
    product = fields.ForeignKeyField("models.Product", related_name=False)
    parent = fields.ForeignKeyField("models.DeviceGroup", related_name=False, null=True, on_delete=fields.RESTRICT, db_index=True)
    name = fields.CharField(64)
    path = fields.CharField(519)  # eight names of 64 and seven slashes
    created_at = fields.DatetimeField()
    releases_need_approval = fields.BooleanField(default=False)  # as a product's: for the devices in the group
    locks_without_approval = fields.IntField(default=0)

    class Meta:
        table = "device_group"
        unique_together = (("product", "path"),)


class GroupMembership(Model):
    id = fields.BigIntField(primary_key=True)
    group = fields.ForeignKeyField("models.DeviceGroup", related_name=False)
    device = fields.ForeignKeyField("models.Device", related_name=False, db_index=True)

    class Meta:
        table = "group_membership"
        unique_together = (("group", "device"),)


class GroupAbove(Model):
    """Which groups a group lies in: itself, its parent, and so on up to the top. Written by triggers (migration 0003); never changes."""

    id = fields.IntField(primary_key=True)
    group = fields.ForeignKeyField("models.DeviceGroup", related_name=False)
    above = fields.ForeignKeyField("models.DeviceGroup", related_name=False, db_index=True)

    class Meta:
        table = "group_above"
        unique_together = (("group", "above"),)


class GroupTally(Model):
    """A part of the number of devices in a group and all inside it, each counted once: the sum of a group's parts is the number.

    Kept by triggers (migration 0003), read and folded by fleet/devices/counting.py like DeviceTally.
    """

    id = fields.BigIntField(primary_key=True)
    group = fields.ForeignKeyField("models.DeviceGroup", related_name=False, db_index=True)
    devices = fields.IntField()

    class Meta:
        table = "group_tally"


class GroupGrant(Model):
    """A group granted to somebody, with all below it; exactly one of member, customer, api_user is set."""

    id = fields.IntField(primary_key=True)
    group = fields.ForeignKeyField("models.DeviceGroup", related_name=False)
    member = fields.ForeignKeyField("models.Member", related_name=False, null=True, db_index=True)
    customer = fields.ForeignKeyField("models.Customer", related_name=False, null=True, db_index=True)
    api_user = fields.ForeignKeyField("models.ApiUser", related_name=False, null=True, db_index=True)
    created_at = fields.DatetimeField()

    class Meta:
        table = "group_grant"
        unique_together = (("group", "member"), ("group", "customer"), ("group", "api_user"))
