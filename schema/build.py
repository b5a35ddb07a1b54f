"""The schema itself, out of its roots; `python -m cli print-schema` prints it into schema.graphql."""

from collections.abc import Sequence

import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig

from schema.fields import SCALARS
from schema.mutation import Mutation
from schema.query import Query
from schema.subscription import Subscription


def build_schema(extensions: Sequence[type[SchemaExtension]] = ()) -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map=SCALARS),
        extensions=list(extensions),
    )
