"""From the text of a GraphQL operation to one that is parsed, validated, measured and allowed, before anything runs."""

import copy
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, TypeVar, TypeVarTuple

import anyio.to_thread
import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    create_source_event_stream,
    execute_subscription_event,
    get_operation_ast,
    parse,
    specified_rules,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule
from strawberry.types import ExecutionContext
from strawberry.types import ExecutionResult as Executed

from errors import QueryTooComplex, Unauthenticated
from schema.levels import Plans
from schema.messages import AtOnce
from settings import Settings
from transport import limits, metrics
from transport.context import OperationContext
from transport.gate import Asked
from transport.rates import Allowance

CACHED_DOCUMENTS = 512
MEASURES_MAX = 100  # of one document, remembered: one for each choice of page sizes
ERRORS_MAX = 5  # of validation, in one answer
THREAD_CHARACTERS = 600  # a longer document that is new is parsed and validated off the loop (2,000 tokens can take 700 ms)
_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class DocumentRefused(Exception):
    """The text is not an operation of this schema: one `code` and at most five `errors` that say where."""

    def __init__(self, code: str, errors: list[GraphQLError]) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


@dataclass(frozen=True, slots=True)
class _Known:
    """A valid document, what is compiled of it, and what its operations were measured to ask for with page sizes they came with."""

    document: DocumentNode
    plans: Plans
    measures: dict[tuple[object, ...], limits.Measure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An operation that may run. `cost` is what the `rateLimit` field shows; `left` what its caller has left once it is paid."""

    document: DocumentNode
    operation: OperationDefinitionNode
    cost: int
    left: Allowance | None = None

    @property
    def is_subscription(self) -> bool:
        return self.operation.operation is OperationType.SUBSCRIPTION

    @property
    def is_query(self) -> bool:
        return self.operation.operation is OperationType.QUERY


class NotBegun(Exception):
    """A subscription whose source could not be made; `result` has the errors."""

    def __init__(self, result: ExecutionResult) -> None:
        super().__init__(result.errors)
        self.result = result


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription under way: what it reads from, and how each message becomes a result. Without `plans` graphql-core alone answers."""

    executor: Executor[Any]
    source: AsyncIterable[Any]
    plans: Plans | None

    def writes_at_once(self) -> AtOnce | None:
        """What makes the data of a message that needs nothing but the message; None where execute() has to answer, at least until now."""
        return self.plans.at_once(self.executor.operation, self.executor.variable_values) if self.plans is not None else None

    async def execute(self, message: object) -> ExecutionResult:
        if self.plans is not None:
            asked = self.executor
            data = await self.plans.message(asked.operation, asked.variable_values, asked.context_value, message)
            if data is not None:
                return ExecutionResult(data)
        executor = self.executor.build_per_event_executor(message)
        executor._relevant_sub_fields = {}  # the copy shares it, and it keeps something of every event for as long as the stream lives
        result = execute_subscription_event(executor)
        return await result if isawaitable(result) else result


class Documents:
    """Prepares operations and remembers the last valid documents. `schema` is the caller's, told to use what is prepared here."""

    def __init__(self, schema: strawberry.Schema, settings: Settings) -> None:
        self._settings = settings
        self._valid: OrderedDict[str, _Known] = OrderedDict()
        self.graphql = schema._schema
        # A copy, so that the caller's schema keeps its own extensions and its way of logging errors.
        self.schema = copy.copy(schema)
        self._may_compile = not schema.extensions  # they would hear nothing of a compiled answer
        self.schema.extensions = (*schema.extensions, lambda: _UsePrepared(self._valid))
        self.schema.process_errors = _masking_logs_each_once  # type: ignore[method-assign]  # on our copy

    async def prepare(
        self, source: str, operation_name: str | None, variables: Mapping[str, object] | None, *, signed_in: bool
    ) -> Prepared:
        """Raises DocumentRefused, QueryTooComplex, BadRequest (a page size) or Unauthenticated (introspection in production)."""
        try:
            document = await self._document(source, signed_in)
            operation = get_operation_ast(document, operation_name)
            if operation is None:
                raise DocumentRefused("OPERATION_RESOLUTION_FAILURE", [GraphQLError(_unknown_operation(operation_name))])
            found = self._measure(source, document, operation, variables)
            limits.check(found, self._settings)
            if found.introspects and self._settings.production and not signed_in:
                raise Unauthenticated("Log in to read the schema.")
            await self._validate(source, document)
        except RecursionError:
            depth_max = self._settings.query_depth_max
            raise QueryTooComplex("This document is nested too deeply.", found=depth_max + 1, limit=depth_max) from None
        return Prepared(document, operation, found.cost)

    @property
    def subscriptions(self) -> GraphQLObjectType | None:
        """The type whose fields are the subscriptions there are."""
        return self.graphql.subscription_type

    async def execute(self, asked: Asked, context: OperationContext) -> Executed:
        """Run a query or mutation that was prepared."""
        data = await self._compiled_answer(asked, context)
        if data is not None:
            metrics.COMPILED.inc()
            return Executed(data=data, errors=None)
        return await self.schema.execute(
            asked.query,
            variable_values=asked.variables,
            context_value=context,
            operation_name=asked.operation_name,
            operation_extensions=asked.extensions,
        )

    async def subscribe(self, asked: Asked, prepared: Prepared, context: OperationContext) -> "Subscribed":
        """Begin a subscription that was prepared. Raises NotBegun with what its resolver refused."""
        executor = self.schema.execution_context_class.build(
            self.graphql,
            prepared.document,
            context_value=context,
            raw_variable_values=asked.variables,
            operation_name=asked.operation_name,
            operation_extensions=asked.extensions,
        )
        if isinstance(executor, list):
            raise NotBegun(ExecutionResult(None, executor))
        source = create_source_event_stream(executor)
        if isawaitable(source):
            source = await source
        if isinstance(source, ExecutionResult):
            raise NotBegun(source)
        known, _ = self._known(asked)
        return Subscribed(executor, source, known.plans if known and self._may_compile else None)

    async def _compiled_answer(self, asked: Asked, context: OperationContext) -> dict[str, object] | None:
        """The data of a query, where a plan can tell it; where it cannot, nothing has been changed."""
        known, operation = self._known(asked)
        if known is None or operation is None or operation.operation is not OperationType.QUERY or not self._may_compile:
            return None
        return await known.plans.answer(operation, asked.variables, context)

    def _known(self, asked: Asked) -> tuple[_Known | None, OperationDefinitionNode | None]:
        """What is remembered of a document that was prepared; it may have fallen out since."""
        known = self._valid.get(asked.query)
        return known, get_operation_ast(known.document, asked.operation_name) if known else None

    def _measure(
        self, source: str, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, object] | None
    ) -> limits.Measure:
        """Raises BadRequest for a page size outside 1 to 100."""
        known = self._valid.get(source)
        sizes = limits.page_sizes(operation, variables or {}) if known else None
        if known is None or sizes is None:
            return limits.measure(self.graphql, document, operation, variables)
        key = (operation.name and operation.name.value, *sizes)
        if key not in known.measures:
            if len(known.measures) >= MEASURES_MAX:
                known.measures.clear()
            known.measures[key] = limits.measure(self.graphql, document, operation, variables)
        return known.measures[key]

    async def _document(self, source: str, signed_in: bool) -> DocumentNode:
        tokens_max = self._settings.query_tokens_max if signed_in else self._settings.query_tokens_anonymous_max
        known = self._valid.get(source)
        if known is not None:
            document = known.document
        else:
            self._check_size(source)
            document = await _off_the_loop(_parse, source, source, tokens_max)
        if document.token_count > tokens_max:
            raise _too_many_tokens(tokens_max)
        return document

    def _check_size(self, source: str) -> None:
        size, size_max = len(source.encode(errors="surrogatepass")), self._settings.query_source_max_bytes
        if size > size_max:
            raise QueryTooComplex(f"This document is {size} bytes long; the limit is {size_max}.", found=size, limit=size_max)

    async def _validate(self, source: str, document: DocumentNode) -> None:
        if source in self._valid:
            self._valid.move_to_end(source)
            return
        errors = await _off_the_loop(self._errors, source, document)
        if errors:
            raise DocumentRefused("GRAPHQL_VALIDATION_FAILED", errors)
        self._valid[source] = _Known(document, Plans(self.schema, document))
        if len(self._valid) > CACHED_DOCUMENTS:
            self._valid.popitem(last=False)

    def _errors(self, document: DocumentNode) -> list[GraphQLError]:
        production = self._settings.production
        try:
            return validate(self.graphql, document, _RULES, max_errors=ERRORS_MAX, hide_suggestions=production)[:ERRORS_MAX]
        except ValueError as error:  # an integer literal of more digits than Python reads
            return [GraphQLError("A literal of this document cannot be read.", original_error=error)]


def _parse(source: str, tokens_max: int) -> DocumentNode:
    try:
        return parse(source, max_tokens=tokens_max)
    except GraphQLSyntaxError as error:
        if "tokens. Parsing aborted" in error.message:
            raise _too_many_tokens(tokens_max) from None
        raise DocumentRefused("GRAPHQL_PARSE_FAILED", [error]) from None


def _too_many_tokens(tokens_max: int) -> QueryTooComplex:
    message = f"This document has more than {tokens_max} tokens. Ask in several operations."
    return QueryTooComplex(message, found=tokens_max + 1, limit=tokens_max)


def _unknown_operation(name: str | None) -> str:
    if name is None:
        return "Say which operation to run: the document needs exactly one, or `operationName` names it."
    return f"The document has no operation named {name!r}."


def _masking_logs_each_once(errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
    """In place of Strawberry's own logging, which writes a trace for every error, a caller's mistakes included."""


async def _off_the_loop(function: Callable[[*Arguments], Result], source: str, *arguments: *Arguments) -> Result:
    if len(source) < THREAD_CHARACTERS:
        return function(*arguments)
    return await anyio.to_thread.run_sync(function, *arguments)


class _UsePrepared(SchemaExtension):
    """Gives Strawberry the document that was prepared. One that fell out of the memory meanwhile is simply prepared again."""

    def __init__(self, valid: Mapping[str, _Known]) -> None:
        self._valid = valid

    def on_parse(self) -> Iterator[None]:
        known = self._valid.get(self.execution_context.query or "")
        if known:
            self.execution_context.graphql_document = known.document
            self.execution_context.pre_execution_errors = []
        yield
