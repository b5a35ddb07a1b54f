"""The summary of a fleet: the five questions that a maker asks first."""

import strawberry

import resolvers.product as doors
from schema.fields import DateTime, argument, asked, described, resolved_by
from schema.lazies import CustomerRef

SINCE = argument(DateTime | None, "From this moment's UTC day on, that whole day included; absent: 30 days ago.")
ACTIVE_SINCE = argument(DateTime | None, "From this moment on, inclusive; absent: 30 days ago.")
MOST = argument(int | None, "At most this many rows, 1 to 100; absent: 25.")


@strawberry.type(description="What the devices of one customer did in a period.")
class CustomerUsage:
    customer: CustomerRef = resolved_by(doors.customer_of, "The customer.")
    events: int = described("Events their devices published.")
    calls: int = described("Functions called and variables read on their devices.")
    last_active_at: DateTime | None = described("When the last of these happened.")


@strawberry.type(description="How many devices run a version.")
class FirmwareCount:
    version: int | None = described("The version as last reported; null: never reported any.")
    devices: int = described("Devices that reported it last.")
    online: int = described("Those of them that are online now.")


@strawberry.type(description="Events of one name that begins with error or exception, in any case.")
class ErrorCount:
    name: str = described("The events' name.")
    count: int = described("How many there were.")
    devices: int = described("From how many different devices.")
    last_at: DateTime = described("When the last one was published.")


@strawberry.type(description="A fleet in numbers, exact at the moment of asking. Only ACTIVE devices are counted, but for `quarantined`.")
class FleetSummary:
    total: int = resolved_by(doors.total, "Devices of the product.")
    online: int = resolved_by(doors.online, "Devices that are connected now.")
    quarantined: int = resolved_by(doors.quarantined, "Devices that report the product's id but were never imported.")
    customers_active: int = asked(
        doors.customers_active, "Customers whose devices had at least one event or call in the period.", since=ACTIVE_SINCE
    )
    customers_inactive: int = asked(doors.customers_inactive, "All other customers.", since=ACTIVE_SINCE)
    usage: list[CustomerUsage] = asked(
        doors.usage, "What active customers did, the busiest first; cut at `first`.", first=MOST, since=SINCE
    )
    firmware_versions: list[FirmwareCount] = resolved_by(
        doors.firmware_versions, "Devices by firmware version, the newest first; null last, and only if there are such devices."
    )
    errors: list[ErrorCount] = asked(
        doors.errors, "What devices report as going wrong, the most frequent first; cut at `first`.", first=MOST, since=SINCE
    )
