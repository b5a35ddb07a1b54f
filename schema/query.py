"""Everything that can be read."""

import strawberry

import resolvers.account
import resolvers.node
import resolvers.organization
import resolvers.server
from schema.account import Viewer
from schema.fields import Node, argument, asked
from schema.organization import Organization
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
    rate_limit: RateLimit = asked(resolvers.server.rate_limit, "What this request cost, and what is left.")
