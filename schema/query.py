"""Everything that can be read."""

import strawberry

import resolvers.account
import resolvers.device
import resolvers.node
import resolvers.organization
import resolvers.planning
import resolvers.product
import resolvers.server
from schema.account import Viewer
from schema.device import Device
from schema.fields import DeviceID, Node, argument, asked
from schema.organization import Organization
from schema.planning import ReleasePlan
from schema.product import Product
from schema.server import RateLimit, Server


@strawberry.type(description="Everything that can be read.")
class Query:
    server: Server = asked(resolvers.server.server, "What the server says of itself.")
    viewer: Viewer = asked(resolvers.account.viewer, "Whoever sent this request.")
    node: Node | None = asked(
        resolvers.node.node, "The object of a global id; null if you may not see it.", id=argument(strawberry.ID, "A global id.")
    )
    nodes: list[Node | None] = asked(
        resolvers.node.nodes, "Objects by their global ids, in the same order.", ids=argument(list[strawberry.ID], "At most 100.")
    )
    organization: Organization | None = asked(
        resolvers.organization.organization_or_null, "An organization you belong to; null for any other.", slug=argument(str, "Its slug.")
    )
    product: Product | None = asked(
        resolvers.product.product_or_null,
        "A product you may see, by exactly one of its two names; null for any other.",
        product_id=argument(int | None, "Its number."),
        slug=argument(str | None, "Its slug."),
    )
    device: Device | None = asked(
        resolvers.device.device_or_null, "A device of your team, or your own; null for any other.", device_id=argument(DeviceID, "Its id.")
    )
    plan_release: ReleasePlan = asked(
        resolvers.planning.plan_release,
        "Who would update if this version were released now, and who would not and why. Changes nothing.",
        product_id=argument(int, "Of which product."),
        version=argument(int, "Which version."),
        group=argument(str | None, "Only to this group and those inside it, as a path; absent: to the whole product."),
    )
    rate_limit: RateLimit = asked(resolvers.server.rate_limit, "What this request cost, and what is left.")
