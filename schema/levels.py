"""The plans of a document: made when it is answered a second time, kept as long as the document is remembered, or followed."""

import asyncio
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import strawberry
from graphql import DirectiveNode, DocumentNode, GraphQLError, OperationDefinitionNode, Undefined, VariableNode, Visitor, visit
from graphql.execution.values import VariableValues, get_variable_values

from schema.compiling import Plan, Unsupported, compile_operation
from schema.messages import AtOnce
from schema.remembering import Remembered

log = logging.getLogger(__name__)

SIGHTINGS = 2  # a plan costs as much as three answers of graphql-core: one that comes once is not worth it
THREAD_TOKENS = 400  # a longer document is compiled off the loop: 2,000 tokens take 30 ms
PLANS_MAX = 8  # of one document: each operation and each set of answers to @skip and @include needs its own


class Plans:
    """What is compiled of one valid document."""

    def __init__(self, schema: strawberry.Schema, document: DocumentNode) -> None:
        self._schema = schema
        self._document = document
        self._seen = 0
        self._values: Remembered[VariableValues | list[GraphQLError]] = Remembered()
        self._plans: dict[tuple[object, ...], Plan | None] = {}

    async def answer(self, operation: OperationDefinitionNode, given: Mapping[str, Any] | None, context: Any) -> dict[str, Any] | None:
        """The `data` of a query; None where graphql-core has to answer, from the beginning."""
        if not self._is_known():
            return None
        variables = self._variables(operation, given or {})
        return None if isinstance(variables, list) else await self._answered(operation, variables, context, None)

    def _variables(self, operation: OperationDefinitionNode, given: Mapping[str, Any]) -> VariableValues | list[GraphQLError]:
        definitions = operation.variable_definitions or ()
        values = [operation.name and operation.name.value, *(given.get(each.variable.name.value, Undefined) for each in definitions)]
        return self._values.of(values, lambda: get_variable_values(self._schema._schema, definitions, dict(given)))

    async def message(
        self, operation: OperationDefinitionNode, variables: VariableValues, context: Any, message: object
    ) -> dict[str, Any] | None:
        """The same for one message of a subscription, whose variables were read when it began."""
        return await self._answered(operation, variables, context, message) if self._is_known() else None

    def at_once(self, operation: OperationDefinitionNode, variables: VariableValues) -> AtOnce | None:
        """What answers messages that need nothing but themselves, once the plan has been made."""
        plan = self._plans.get(self._key(operation, variables))
        return plan.at_once if plan else None

    def _is_known(self) -> bool:
        self._seen += 1
        return self._seen >= SIGHTINGS

    async def _answered(
        self, operation: OperationDefinitionNode, variables: VariableValues, context: Any, message: object
    ) -> dict[str, Any] | None:
        try:
            plan = await self._plan(operation, variables)
            return await plan.answer(message, context, variables) if plan else None
        except Exception as surprise:  # whatever it is, graphql-core meets it too, and says it in its words
            log.debug("graphql-core answers instead: %r", surprise)
            return None

    async def _plan(self, operation: OperationDefinitionNode, variables: VariableValues) -> Plan | None:
        key = self._key(operation, variables)
        if key not in self._plans and len(self._plans) < PLANS_MAX:
            is_long = self._document.token_count > THREAD_TOKENS
            found = await asyncio.to_thread(self._compiled, operation, variables) if is_long else self._compiled(operation, variables)
            self._plans[key] = found
        return self._plans.get(key)

    def _key(self, operation: OperationDefinitionNode, variables: VariableValues) -> tuple[object, ...]:
        return (operation.name.value if operation.name else None, *map(variables.coerced.get, self._conditions))

    @cached_property
    def _conditions(self) -> list[str]:
        """The variables that decide which fields an answer has."""
        found = _Conditions()
        visit(self._document, found)
        return sorted(found.variables)

    def _compiled(self, operation: OperationDefinitionNode, variables: VariableValues) -> Plan | None:
        try:
            return compile_operation(self._schema, self._document, operation, variables)
        except Unsupported as reason:
            log.debug("not compiled: %s", reason)
            return None


class _Conditions(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.variables: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: object) -> None:
        if node.name.value in ("skip", "include"):
            values = [argument.value for argument in node.arguments or ()]
            self.variables |= {value.name.value for value in values if isinstance(value, VariableNode)}
