"""Everything that can be followed live."""

from collections.abc import AsyncGenerator

import strawberry

import resolvers.billing
import resolvers.importing
import resolvers.live
import resolvers.rollout
from schema.billing import Billing
from schema.event import DeviceStatusMessage, EventMessage
from schema.fields import Cursor, DeviceID, argument, streamed
from schema.importing import Import
from schema.rollout import Rollout

_DEVICE = argument(DeviceID | None, "Of this device alone.")
_GROUP = argument(str | None, "Of devices that are in this group, by its path, or in one below it; as they come and go.")
_AFTER = argument(Cursor | None, "Go on behind this cursor, of a message or of history; absent: begin now.")
_STREAM = argument(
    str | None,
    "A name of 1 to 64 characters under which the server remembers, for you and this product, how far this subscription was delivered:"
    " without `after` it goes on from there, in whichever process and with whichever of your tokens. What was sent shortly before a cut"
    " comes again, nothing is left out; first a gap if the log does not go back so far. Of two subscribers the newer one has the name,"
    " the other ends with an error. A name not used for 30 days is forgotten; 100 names a viewer.",
)


@strawberry.type(description="Everything that can be followed live.")
class Subscription:
    events: AsyncGenerator[EventMessage, None] = streamed(
        resolvers.live.events,
        "Events of a product as they are published, in order and at least once; first a gap if some cannot be given any more.",
        product_id=argument(int, "Which product."),
        device_id=_DEVICE,
        group=_GROUP,
        name_prefix=argument(str | None, "Whose name begins so; upper and lower case differ."),
        after=_AFTER,
        stream=_STREAM,
    )
    device_status: AsyncGenerator[DeviceStatusMessage, None] = streamed(
        resolvers.live.device_status,
        "How devices change. For one device it begins with a SNAPSHOT, whose cursor is where the stream goes on.",
        product_id=argument(int | None, "Of this product; may be absent if deviceId is given."),
        device_id=_DEVICE,
        group=_GROUP,
        after=_AFTER,
        stream=_STREAM,
    )
    billing_changed: AsyncGenerator[Billing, None] = streamed(
        resolvers.billing.billing_changed,
        "How an organization's billing stands: now, and whenever it changes. Needs ADMIN; goes on while the team has no access.",
        organization=argument(str, "The organization's slug."),
    )
    import_progress: AsyncGenerator[Import, None] = streamed(
        resolvers.importing.import_progress,
        "An import as it goes on, from where it is now; the stream ends with it.",
        import_id=argument(strawberry.ID, "The import's global id."),
    )
    rollout_progress: AsyncGenerator[Rollout, None] = streamed(
        resolvers.rollout.rollout_progress,
        "A rollout as it goes on, from where it is now: at every change of its state or of a count of a stage. It ends with the rollout.",
        rollout_id=argument(strawberry.ID, "The rollout's global id."),
    )
