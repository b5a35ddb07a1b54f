"""The schema itself, out of its roots; `python -m cli print-schema` prints it into schema.graphql."""

from collections.abc import Sequence
from typing import Any

import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from resolvers.gathering import needs_awaiting
from schema.fields import SCALARS
from schema.mutation import Mutation
from schema.query import Query
from schema.subscription import Subscription


class _Executor(StrawberryGraphQLCoreExecutionContext):
    """graphql-core, told that a row of the ORM is there already."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.is_awaitable = needs_awaiting  # type: ignore[assignment]  # no TypeGuard: what is here already may be awaitable


def build_schema(extensions: Sequence[type[SchemaExtension]] = ()) -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map=SCALARS),
        extensions=list(extensions),
        execution_context_class=_Executor,
    )
