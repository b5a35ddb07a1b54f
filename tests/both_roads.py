"""Every query of a test answered twice: by graphql-core, and by the plan that is compiled of it. The two must say the same."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import strawberry
from graphql import OperationDefinitionNode, OperationType, get_operation_ast, parse
from graphql.execution.values import get_variable_values
from strawberry.types import ExecutionResult

from resolvers.context import Context
from schema.compiling import Unsupported, compile_operation

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
    """Hold the plan's answer to `result`, graphql-core's: the same data, and no answer where there are errors."""
    if query_in(text) is None:
        return
    try:
        data = await compiled(schema, text, variables, await context())
    except Exception as surprise:
        assert result.errors, f"No plan answers this, though graphql-core does: {surprise!r}\n{text}"
        return
    assert not result.errors, f"A plan answers what graphql-core has errors for: {result.errors}\n{text}"
    assert still(data) == still(result.data), text


def still(answer: Any) -> Any:
    """The answer without moments."""
    if isinstance(answer, dict):
        return {key: None if key in MOMENTS and value is not None else still(value) for key, value in answer.items()}
    return [still(each) for each in answer] if isinstance(answer, list) else answer
