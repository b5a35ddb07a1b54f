"""Publishing an event to a product from the API: its log keeps it, and its connected devices receive it."""

from datetime import UTC, datetime

from auth.viewer import Viewer
from billing.access import require_active
from errors import InvalidInput
from fleet.auditing import record
from fleet.events.names import require_event_name
from models.log import EntryKind
from models.organization import Organization
from models.product import Product
from models.transaction import transaction
from realtime import log
from realtime.log import Entry, NewEntry
from settings import Settings


async def publish_event(product: Product, name: str, *, data: str | None, settings: Settings, by: Viewer) -> Entry:
    """Write an event into the product's log; each of its active devices that is online is told it once.

    Raises InvalidInput for a name that is not allowed or reserved, and for data that is too long or holds a NUL.
    Source: vocabulary, "Events, functions, limits".
    """
    organization: Organization = product.organization
    by.must("event.publish", organization.id, product.id)
    require_active(organization)
    require_event_name(name, path=("name",))
    _require_data(data, settings.event_data_max_bytes)
    async with transaction():
        await record(by, "event.published", f"product:{product.number}", organization_id=organization.id, name=name)
        (entry,) = await log.append(NewEntry(product.number, EntryKind.EVENT, name, datetime.now(UTC), data=data))
    return entry


def _require_data(data: str | None, limit: int) -> None:
    if data is not None and len(data.encode()) > limit:
        raise InvalidInput(f"An event's data has at most {limit} bytes.", path=("data",))
    if data is not None and "\0" in data:
        raise InvalidInput("An event's data holds no NUL characters.", path=("data",))
