"""The ordered log of published events and status changes, and the counters that outlive it."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class DeviceChange(StrEnum):
    """What a status entry reports. SNAPSHOT and GAP are made for a subscriber and never stored."""

    SNAPSHOT = "SNAPSHOT"
    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    FIRMWARE_CHANGED = "FIRMWARE_CHANGED"
    UPDATE_PROGRESS = "UPDATE_PROGRESS"
    LOCKED = "LOCKED"
    UNLOCKED = "UNLOCKED"
    CLAIMED = "CLAIMED"
    UNCLAIMED = "UNCLAIMED"
    ADDED = "ADDED"
    REMOVED = "REMOVED"
    QUARANTINED = "QUARANTINED"
    GAP = "GAP"


class EntryKind(StrEnum):
    EVENT = "event"  # published by a device or by publishEvent
    STATUS = "status"  # `name` is a DeviceChange
    ORDER = "order"  # for the gateways only: a release to act on now, a session to close; no subscriber sees it


class LogEntry(Model):
    """One entry. `position` grows in commit order, because the log's lock is held from the insert to the commit."""

    position = fields.BigIntField(primary_key=True)
    product_number = fields.IntField()
    kind = fields.CharField(8)
    device_id = fields.CharField(24, null=True)  # null: published to the whole product from the API
    name = fields.CharField(64)
    data = fields.TextField(null=True)
    published_at = fields.DatetimeField()
    device_time = fields.DatetimeField(null=True)
    ttl = fields.IntField(default=60)  # seconds; kept for clients, without effect
    firmware_version = fields.IntField(null=True)
    event_key = fields.CharField(64, null=True)  # the device's own id of the event: said twice, stored once
    tag = fields.IntField()  # random, in every cursor: tells a restored database from the one the cursor was made on

    class Meta:
        table = "log_entry"
        indexes = (("product_number", "position"), ("device_id", "position"), ("published_at",))
        unique_together = (("device_id", "event_key"),)


class LogState(Model):
    """One row: which life of the database this is, and how far the log has been purged."""

    id = fields.IntField(primary_key=True)
    epoch = fields.CharField(16)
    purged_through = fields.BigIntField(default=0)

    class Meta:
        table = "log_state"


class NamedStream(Model):
    """How far a stream that its viewer has named was delivered; realtime/named.py knows the rules."""

    id = fields.BigIntField(primary_key=True)
    owner = fields.CharField(40)  # e.g. user:3: whoever asks, with whichever token
    product_number = fields.IntField()
    kind = fields.CharField(8)  # an EntryKind
    name = fields.CharField(64)
    cursor = fields.CharField(27, null=True)  # of the last message known to be delivered, or of the place where it began
    holder = fields.CharField(16)  # the subscriber who has it now
    used_at = fields.DatetimeField(db_index=True)

    class Meta:
        table = "named_stream"
        unique_together = (("owner", "product_number", "kind", "name"),)


class ErrorTally(Model):
    """Events of a day whose name begins with error or exception, by device."""

    id = fields.BigIntField(primary_key=True)
    product_number = fields.IntField()
    day = fields.DateField()
    name = fields.CharField(64)
    device_id = fields.CharField(24)
    count = fields.IntField()
    last_at = fields.DatetimeField()

    class Meta:
        table = "error_tally"
        unique_together = (("product_number", "day", "name", "device_id"),)


class UsageTally(Model):
    """Events and calls of a day of one customer's devices."""

    id = fields.BigIntField(primary_key=True)
    product_number = fields.IntField()
    day = fields.DateField()
    customer = fields.ForeignKeyField("models.Customer", related_name=False)
    events = fields.IntField(default=0)
    calls = fields.IntField(default=0)
    last_at = fields.DatetimeField()

    class Meta:
        table = "usage_tally"
        indexes = (("customer_id", "day"),)  # for deleting a customer, and for when one was last active
        unique_together = (("product_number", "day", "customer"),)
