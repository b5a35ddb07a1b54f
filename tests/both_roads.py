"""Every query of a test answered twice, and every message of a subscription: by graphql-core, and by the plan that is compiled of it.

The two must say the same.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import strawberry
from graphql import ExecutionResult as GraphQLResult
from graphql import GraphQLError, OperationDefinitionNode, OperationType, get_operation_ast, parse
from graphql.execution.values import get_variable_values
from strawberry.types import ExecutionResult

from errors import CallerError
from resolvers.context import Context
from schema.compiling import Unsupported, compile_operation
from settings import Settings
from transport.documents import Documents, NotBegun, Subscribed
from transport.gate import Asked

MOMENTS = {"time", "resetAt", "downloadUrl", "token"}  # what is another one each time it is asked for; a plan's token names its end


def query_in(text: str) -> OperationDefinitionNode | None:
    """The operation, if it is the only one and a query without introspection."""
    operation = get_operation_ast(parse(text))
    is_query = operation is not None and operation.operation is OperationType.QUERY
    return operation if is_query and "__schema" not in text and "__type(" not in text else None


async def compiled(schema: strawberry.Schema, text: str, variables: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What the plan answers. Raises Unsupported, or whatever keeps it from answering."""
    document, operation = parse(text), query_in(text)
    if operation is None:
        raise Unsupported("no query")
    coerced = get_variable_values(schema._schema, operation.variable_definitions or (), dict(variables))
    if isinstance(coerced, list):
        raise coerced[0]
    return await compile_operation(schema, document, operation, coerced).answer(None, context, coerced)


async def check(
    schema: strawberry.Schema, text: str, variables: Mapping[str, Any], context: Callable[[], Awaitable[Context]], result: ExecutionResult
) -> None:
    """Hold the plan's answer to `result`, graphql-core's: the same data, and no answer where there are errors.

    Devices move while this is asked: where the two differ graphql-core is asked once more, and the plan's answer is one of its two.
    """
    if query_in(text) is None:
        return
    try:
        data, surprise = await compiled(schema, text, variables, await context()), None
    except Exception as error:
        data, surprise = None, error
    if not _agree(data, surprise, result):
        again = await schema.execute(text, variable_values=dict(variables), context_value=await context())
        assert _agree(data, surprise, again), (text, surprise, data, result, again)


def _agree(data: dict[str, Any] | None, surprise: Exception | None, result: ExecutionResult) -> bool:
    if surprise is not None or result.errors:
        return surprise is not None and bool(result.errors)
    return bool(still(data) == still(result.data))


async def subscribe(
    schema: strawberry.Schema, text: str, variables: Mapping[str, Any], context: Context
) -> AsyncGenerator[GraphQLResult, None]:
    """A subscription's results by graphql-core, each held to what its plan says."""
    documents, asked = Documents(schema, Settings()), Asked(text, None, dict(variables))
    prepared = await documents.prepare(text, None, variables, signed_in=True)
    try:
        subscribed = await documents.subscribe(asked, prepared, context)
    except NotBegun as refused:
        yield refused.result
        return
    async with aclosing(aiter(subscribed.source)) as messages:  # type: ignore[type-var]  # every resolver's is a generator
        try:
            async for message in messages:
                yield await message_on_both_roads(subscribed, message)
        except CallerError as error:  # what ends it
            yield GraphQLResult(None, [GraphQLError(error.message, original_error=error)])


async def message_on_both_roads(subscribed: Subscribed, message: object) -> GraphQLResult:
    """Devices move while this is asked, so it is asked before and after: the plan's answer is one of the two."""
    assert subscribed.plans is not None
    asked, reference = subscribed.executor, replace(subscribed, plans=None)
    context: Context = asked.context_value
    before = await reference.execute(message)
    context.renew(context.viewer)
    data = await subscribed.plans._answered(asked.operation, asked.variable_values, context, message)
    context.renew(context.viewer)
    write = subscribed.writes_at_once()
    assert write is None or data is None or write(message) == data
    after = await reference.execute(message)
    if data is None:
        assert before.errors or after.errors, "No plan answers this, though graphql-core does."
    else:
        assert any(not each.errors and still(each.data) == still(data) for each in (before, after)), (before, data, after)
    return before


def still(answer: Any) -> Any:
    """The answer without moments."""
    if isinstance(answer, dict):
        return {key: None if key in MOMENTS and value is not None else still(value) for key, value in answer.items()}
    return [still(each) for each in answer] if isinstance(answer, list) else answer
