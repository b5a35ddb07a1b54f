"""Events, the messages of subscriptions, and publishing."""

import strawberry

import resolvers.live as doors
from models.log import DeviceChange
from realtime.cursor import GapReason
from realtime.log import Entry
from schema.fields import (
    AFTER,
    BEFORE,
    FIRST,
    LAST,
    Connection,
    Cursor,
    DateTime,
    DeviceID,
    Input,
    Node,
    Payload,
    argument,
    asked,
    computed,
    described,
    enumeration,
    id_of,
    mutation,
    optional,
    outcome,
    resolved_by,
    rows_of,
)
from schema.lazies import DeviceRef

# Types whose own fields show what stands in the log and never look at who asks: subscriptions of nothing else are executed once
# for everybody who sees the entry.
OF_THE_LOG = frozenset({"EventMessage", "DeviceStatusMessage", "DeviceEvent", "StreamGap"})

enumeration(
    GapReason,
    "Why a stream cannot give what came after its cursor.",
    RETENTION="It is older than the log goes back.",
    RESTORED="The database was put back to an earlier time; the cursor belongs to what was undone.",
)
enumeration(
    DeviceChange,
    "What changed of a device.",
    SNAPSHOT="Nothing: how the device is as the stream begins.",
    ONLINE="It connected and proved who it is.",
    OFFLINE="It left, or was not heard any more.",
    FIRMWARE_CHANGED="It reports another version than before.",
    UPDATE_PROGRESS="Its update is a step further.",
    LOCKED="It was locked to a version.",
    UNLOCKED="Its lock was taken off.",
    CLAIMED="A customer owns it now.",
    UNCLAIMED="Nobody owns it any more.",
    ADDED="It is a member of the product now.",
    REMOVED="It is not in the product any more.",
    QUARANTINED="It reports this product and is not admitted; its state says whether it waits or is denied.",
    GAP="Something is missing here: `gap` says what.",
)


@strawberry.type(description="What a device published, or publishEvent.")
class DeviceEvent(Node):
    is_type_of = rows_of(Entry)
    id: strawberry.ID = id_of("DeviceEvent", "position")
    cursor: Cursor = described("Its place in the product's log, the same in history and in subscriptions.")
    device_id: DeviceID = computed(doors.event_device_id, "Which device; 24 zeros if it was published through the API.")
    device: DeviceRef | None = resolved_by(doors.event_device, "The device as it is now; null if you may not see it, or there is none.")
    name: str = described("What happened.")
    data: str | None = described("With which data; null if there was none.")
    published_at: DateTime = described("When the server took it in; this orders events.")
    device_time: DateTime | None = described("When it happened by the device's own clock; null if it did not say.")
    ttl: int = described("Seconds; kept as published, without effect.")
    firmware_version: int | None = described("What the device ran; null if it did not say.")


@strawberry.input(description="Which events; what is absent does not matter.")
class EventFilter:
    device_id: DeviceID | None = optional("Of this device.")
    group: str | None = optional("Of devices that are in this group now, or in one below it.")
    name_prefix: str | None = optional("Whose name begins so; upper and lower case differ.")
    since: DateTime | None = optional("Published from then on, inclusive.")
    until: DateTime | None = optional("Published before then, exclusive.")


@strawberry.type(description="A part of the log that a stream cannot give.")
class StreamGap:
    from_: Cursor | None = computed(lambda gap: str(gap.after), "The cursor after which something is missing.", name="from")
    to: Cursor | None = described("The cursor after which the stream goes on.")
    reason: GapReason = described("Why.")


@strawberry.type(description="One message of `events`: exactly one of event and gap.")
class EventMessage:
    cursor: Cursor = described("Give it as `after` to go on behind this message.")
    event: DeviceEvent | None = described("The event; null where there is a gap.")
    gap: StreamGap | None = described("What is missing; null where nothing is.")


@strawberry.type(description="One message of `deviceStatus`.")
class DeviceStatusMessage:
    cursor: Cursor = described("Give it as `after` to go on behind this message.")
    at: DateTime = described("When it changed.")
    device: DeviceRef | None = described("The device as it is now, not as it was then; null for a gap, or if you may not see it any more.")
    change: DeviceChange = described("What changed.")
    gap: StreamGap | None = described("What is missing; null where nothing is.")


_FILTER = argument(EventFilter | None, "Which events; absent: all.")
_PAGE = {"first": FIRST, "after": AFTER, "last": LAST, "before": BEFORE, "filter": _FILTER}


@strawberry.type
class ProductEventFields:
    """What a product shows of its log."""

    events: Connection[DeviceEvent] = asked(
        doors.product_events, "Its events, oldest first, as far back as the log goes; `events` goes on from any cursor of these.", **_PAGE
    )


@strawberry.type
class DeviceEventFields:
    """What a device shows of its product's log."""

    events: Connection[DeviceEvent] = asked(
        doors.device_events, "What it published as a device of its present product, oldest first, as far back as the log goes.", **_PAGE
    )


# ── inputs and payloads ──
@strawberry.input(description="An event for a product and its devices.")
class PublishEventInput(Input):
    product_id: int = described("Which product.")
    name: str = described("1 to 64 characters of A-Z a-z 0-9 _ - /; particle, spark and flotilla are reserved at its beginning.")
    data: str | None = optional("At most `server { limits }` eventDataBytes of UTF-8; absent: none.")


@strawberry.type(description="The event as it stands in the log.")
class PublishEventPayload(Payload):
    event: DeviceEvent | None = outcome("The event.")


@strawberry.type
class EventMutations:
    publish_event: PublishEventPayload = mutation(
        doors.publish_event,
        PublishEventInput,
        PublishEventPayload,
        "Publish an event to a product: its active devices that are online receive it. Needs DEVELOPER.",
    )
