"""Compiles a query into a plan that answers level by level: for all objects of one place in the document at once.

The plan knows only the way without errors. Whatever else happens is a Surprise: then graphql-core answers the whole operation anew, with
its own words. What may run is decided by the same doors on both ways, since a plan calls what the field's declaration names.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    OperationDefinitionNode,
    OperationType,
    Undefined,
    VariableNode,
    get_nullable_type,
)
from graphql.execution.collect_fields import FieldDetailsList, FragmentDetails, GroupedFieldSet, collect_fields, collect_subfields
from graphql.execution.values import VariableValues, get_argument_values
from strawberry.types.arguments import convert_arguments
from strawberry.types.field import StrawberryField
from tortoise.models import Model

from models.whole_rows import Wanted, missed, wanting
from resolvers.gathering import ForAll, side_by_side
from schema.leaves import leaf
from schema.messages import AtOnce, at_once
from schema.reading import READING, Asked, Attribute, Computed, Reading
from schema.remembering import Remembered
from schema.shaping import Part, Run, Values, by_class, each_of, leaves, never_null, only, or_null


class Unsupported(Exception):
    """The document holds what no plan can answer; the message says what."""


@dataclass(slots=True)
class Plan:
    """A compiled operation, and which columns of its rows it reads: those it shows to begin with, and what its doors turn out to need."""

    root: Part
    wanted: Wanted
    at_once: AtOnce | None = None  # for a message of which everything is at hand

    async def answer(self, root: object, context: Any, variables: VariableValues) -> dict[str, Any]:
        """The `data` of the operation. Raises anything at all where graphql-core has to answer."""
        while True:
            wanted = self.wanted
            try:
                with wanting(wanted):
                    answer: dict[str, Any] = (await self.root.shape([root], Run(context, variables)))[0]
                    return answer
            except Exception as error:
                context.forget()  # or whoever answers next meets rows that were read in part
                if not self._learnt(error, wanted):
                    raise

    def _learnt(self, error: Exception, wanted: Wanted) -> bool:
        """Whether it came of a column that was not `wanted` and will be from now on; another answer may have found out meanwhile."""
        table, name = missed(error) or (None, "")
        if table is None or name in wanted.get(table, {name}):
            return False
        self.wanted = {**self.wanted, table: self.wanted[table] | {name}}
        return True


def compile_operation(
    schema: strawberry.Schema, document: DocumentNode, operation: OperationDefinitionNode, variables: VariableValues
) -> Plan:
    """A plan for a valid query or the messages of a subscription. It holds for these values of the variables that its @skip and @include
    name, and for any of the others.

    Raises Unsupported.
    """
    if operation.operation is OperationType.MUTATION:
        raise Unsupported("mutation")
    compiler = _Compiler(schema, document, operation, variables)
    root = compiler.root()
    return Plan(root, {table: frozenset(names) for table, names in compiler.shown.items()}, compiler.at_once)


class _Compiler:
    def __init__(
        self, schema: strawberry.Schema, document: DocumentNode, operation: OperationDefinitionNode, variables: VariableValues
    ) -> None:
        self._strawberry = schema
        self._schema = schema._schema
        self._operation = operation
        self._variables = variables
        definitions = [each for each in document.definitions if isinstance(each, FragmentDefinitionNode)]
        self._fragments = {each.name.value: FragmentDetails(each) for each in definitions}
        self.shown: dict[type[Model], set[str]] = {}  # the attributes of rows that the document asks for itself
        self.at_once: AtOnce | None = None

    def root(self) -> Part:
        root = self._schema.get_root_type(self._operation.operation)
        assert root is not None, "the document is valid"
        found = collect_fields(self._schema, self._fragments, self._variables, root, self._operation)
        if found.new_defer_usages:
            raise Unsupported("@defer")
        if self._operation.operation is OperationType.SUBSCRIPTION:
            return self._message(root, found.grouped_field_set)
        return self._selection(root, found.grouped_field_set)

    def _message(self, root: GraphQLObjectType, fields: GroupedFieldSet) -> Part:
        """The one field of a subscription is answered by the message itself."""
        if len(fields) != 1:
            raise Unsupported("a subscription of several fields")
        ((key, details),) = fields.items()
        kind = self._field(root, details).type
        message = self._part(kind, details)
        self.at_once = at_once(key, kind, details, self._fields, self._field, self._reading)

        async def shape(messages: Values, run: Run) -> Values:
            return [{key: shaped} for shaped in await message.shape(messages, run)]

        return Part(shape, message.waits)

    # ── one type each ──
    def _part(self, kind: Any, details: FieldDetailsList) -> Part:
        if isinstance(kind, GraphQLNonNull):
            return never_null(self._nullable(kind.of_type, details))
        return or_null(self._nullable(kind, details))

    def _nullable(self, kind: Any, details: FieldDetailsList) -> Part:
        """Of values of which none is null."""
        if isinstance(kind, GraphQLList):
            return each_of(self._part(kind.of_type, details))
        if isinstance(kind, GraphQLObjectType):
            return self._object(kind, details)
        if isinstance(kind, GraphQLInterfaceType):
            return self._interface(kind, details)
        if isinstance(kind, GraphQLScalarType | GraphQLEnumType):
            return leaves(kind)
        raise Unsupported(str(kind))

    def _object(self, kind: GraphQLObjectType, details: FieldDetailsList) -> Part:
        part = self._selection(kind, self._fields(kind, details))
        return only(_classes(kind), part) if kind.is_type_of else part

    def _fields(self, kind: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        found = collect_subfields(self._schema, self._fragments, self._variables, self._operation, kind, details)
        if found.new_defer_usages:
            raise Unsupported("@defer")
        return found.grouped_field_set

    def _interface(self, kind: GraphQLInterfaceType, details: FieldDetailsList) -> Part:
        """The first type in the schema's order whose rows these are."""
        definition = kind.extensions.get("strawberry-definition")
        if definition is None or definition.resolve_type:
            raise Unsupported(f"the types of {kind.name}")
        types = self._schema.get_possible_types(kind)
        return by_class([(_classes(each), self._object(each, details)) for each in types])

    # ── the fields of one object type ──
    def _selection(self, parent: GraphQLObjectType, fields: GroupedFieldSet) -> Part:
        writer = _Writer()
        shown: set[str] = set()
        for key, details in fields.items():
            name = details[0].node.name.value
            if name == "__typename":
                writer.constant(key, parent.name)
                continue
            field = self._field(parent, details)
            reading = self._reading(field)
            shown |= {reading.name} if isinstance(reading, Attribute) else set()
            kind = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
            if isinstance(kind, GraphQLScalarType | GraphQLEnumType) and not isinstance(reading, Asked):
                writer.leaf(key, reading, kind, is_null_allowed=kind is field.type)
            else:
                writer.column(key, self._column(field, reading, details))
        for table in getattr(parent.is_type_of, "classes", ()):
            self.shown.setdefault(table, set()).update(shown)
        return writer.part()

    def _field(self, parent: GraphQLObjectType, details: FieldDetailsList) -> GraphQLField:
        name = details[0].node.name.value
        field: GraphQLField | None = parent.fields.get(name)
        if field is None:
            raise Unsupported(f"{parent.name}.{name}")
        return field

    def _reading(self, field: GraphQLField) -> Reading:
        declared = field.extensions.get("strawberry-definition")
        if not isinstance(declared, StrawberryField) or declared.extensions or declared.permission_classes:
            raise Unsupported("a field that is not declared here")
        if READING in declared.metadata:
            reading: Reading = declared.metadata[READING]
            return reading
        if declared.is_basic_field:
            return Attribute(declared.python_name)
        raise Unsupported(f"how {declared.python_name} is answered")

    def _column(self, field: GraphQLField, reading: Reading, details: FieldDetailsList) -> Part:
        """What a field is answered with for each of many rows, shaped."""
        inner = self._part(field.type, details)
        if not isinstance(reading, Asked):
            of = reading.of

            async def read(rows: Values, run: Run) -> Values:
                return await inner.shape([of(row) for row in rows], run)

            return Part(read, inner.waits)
        answers = self._answers(field, reading, details)

        async def ask(rows: Values, run: Run) -> Values:
            return await inner.shape(list(await answers(rows, run)), run) if rows else []

        return Part(ask, waits=inner.waits or not isinstance(reading.door, ForAll))

    def _answers(self, field: GraphQLField, asked: Asked, details: FieldDetailsList) -> Callable[[Values, Run], Awaitable[Sequence[Any]]]:
        door = asked.door
        if isinstance(door, ForAll):
            return lambda rows, run: door.for_all(rows, run.context)
        named = self._arguments(field, asked, details[0].node)

        async def each(rows: Values, run: Run) -> Values:
            arguments = named(run)
            return [asked.answer(row, run.context, arguments) for row in rows]

        async def awaited(rows: Values, run: Run) -> Values:
            arguments = named(run)
            return await side_by_side([asked.answer(row, run.context, arguments) for row in rows])

        return awaited if iscoroutinefunction(door) else each

    def _arguments(self, field: GraphQLField, asked: Asked, node: FieldNode) -> Callable[[Run], Mapping[str, Any]]:
        """The field's arguments as graphql-core and Strawberry read them, remembered for equal values of the variables in them."""
        declared, converter = field.extensions["strawberry-definition"], self._strawberry.schema_converter
        names = _variables_of(node, field)
        known: Remembered[Mapping[str, Any]] = Remembered()

        def read(run: Run) -> Mapping[str, Any]:
            values = get_argument_values(field, node, run.variables)
            return asked.named(convert_arguments(values, declared.arguments, converter.scalar_registry, converter.config))

        def remembered(run: Run) -> Mapping[str, Any]:
            return known.of([run.variables.coerced.get(name, Undefined) for name in names or ()], lambda: read(run))

        return read if names is None else remembered


def _variables_of(node: FieldNode, field: GraphQLField) -> list[str] | None:
    """Those that arguments' values are; None where an argument is written out, or has a default, that is more than one single value."""
    given = {argument.name.value: argument.value for argument in node.arguments or ()}
    for name, argument in field.args.items():
        is_constant = not isinstance(given[name], VariableNode) if name in given else argument.default_value is not Undefined
        if is_constant and not isinstance(get_nullable_type(argument.type), GraphQLScalarType | GraphQLEnumType):
            return None
    return [value.name.value for value in given.values() if isinstance(value, VariableNode)]


def _classes(kind: GraphQLObjectType) -> tuple[type, ...]:
    """What `rows_of` was given."""
    classes: tuple[type, ...] | None = getattr(kind.is_type_of, "classes", None)
    if classes is None:
        raise Unsupported(f"the rows of {kind.name}")
    return classes


class _Writer:
    """Makes the function that writes the objects of one selection, as `[{"name": …, …} for row, … in zip(rows, …)]`.

    The only code that is generated, for these are the fields of which there are hundreds in an answer; what stands in it are names
    of the schema and of GraphQL, which are letters, digits and `_`.
    """

    def __init__(self) -> None:
        self._entries: list[str] = []
        self._names: dict[str, Any] = {}
        self._columns: list[Part] = []

    def constant(self, key: str, value: str) -> None:
        self._entries.append(f"{key!r}: {value!r}")

    def leaf(self, key: str, reading: Attribute | Computed, kind: GraphQLScalarType | GraphQLEnumType, *, is_null_allowed: bool) -> None:
        read = f"row.{reading.name}" if isinstance(reading, Attribute) else f"{self._named(reading.of)}(row)"
        found = leaf(kind, is_null_allowed=is_null_allowed)
        self._entries.append(f"{key!r}: {found.expression(read, self._named)}")

    def column(self, key: str, part: Part) -> None:
        self._entries.append(f"{key!r}: column{len(self._columns)}")
        self._columns.append(part)

    def part(self) -> Part:
        columns = self._columns
        write = self._function()
        waiting = [part.shape for part in columns if part.waits]

        async def shape(rows: Values, run: Run) -> Values:
            return write(rows, *[await part.shape(rows, run) for part in columns])

        async def shape_together(rows: Values, run: Run) -> Values:
            found = iter(await side_by_side([ask(rows, run) for ask in waiting]))
            return write(rows, *[next(found) if part.waits else await part.shape(rows, run) for part in columns])

        return Part(shape_together if len(waiting) > 1 else shape, bool(waiting))

    def _function(self) -> Callable[..., Values]:
        columns = [f"column{number}" for number in range(len(self._columns))]
        each = ", ".join(["row", *columns])
        source = f"zip({', '.join(['rows', *(f'{column}s' for column in columns)])})" if columns else "rows"
        arguments = ", ".join(["rows", *(f"{column}s" for column in columns)])
        text = f"def write({arguments}):\n    return [{{{', '.join(self._entries)}}} for {each} in {source}]"
        exec(compile(text, "<selection>", "exec"), self._names)  # noqa: S102  # see the class
        write: Callable[..., Values] = self._names["write"]
        return write

    def _named(self, value: object) -> str:
        name = f"f{len(self._names)}"
        self._names[name] = value
        return name
