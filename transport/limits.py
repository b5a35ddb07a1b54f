"""How much a GraphQL document asks for, measured in one pass before anything runs, and refused when it is too much."""

from collections.abc import Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    SchemaMetaFieldDef,
    SelectionNode,
    SelectionSetNode,
    TypeMetaFieldDef,
    TypeNameMetaFieldDef,
    TypeNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_named_type,
)

from errors import BadRequest, QueryTooComplex
from settings import PAGE_DEFAULT, PAGE_MAX, Settings

_META_FIELDS: Mapping[str, GraphQLField] = {
    "__schema": SchemaMetaFieldDef,
    "__type": TypeMetaFieldDef,
    "__typename": TypeNameMetaFieldDef,
}


@dataclass(frozen=True, slots=True)
class Measure:
    """What one operation asks for, fragments expanded. `cost` counts fields, multiplied by the page sizes above them."""

    depth: int = 0
    cost: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0
    introspects: bool = False

    def beside(self, other: "Measure") -> "Measure":
        return Measure(
            max(self.depth, other.depth),
            self.cost + other.cost,
            self.fields + other.fields,
            self.aliases + other.aliases,
            self.directives + other.directives,
            self.introspects or other.introspects,
        )


def measure(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, object] | None
) -> Measure:
    """Measure `operation` in time proportional to the document: each fragment is walked once, however often it is spread.

    Raises BadRequest for a page size outside 1 to 100.
    """
    return _Ruler(schema, document, operation, variables or {}).whole()


def page_sizes(operation: OperationDefinitionNode, variables: Mapping[str, object]) -> tuple[object, ...] | None:
    """Of the variables, all that a measure can depend on: those that are an Int. None where one of them came as something else."""
    whole = [v.variable.name.value for v in operation.variable_definitions or () if _is_int(v.type)]
    values = tuple(variables.get(name, Undefined) for name in whole)
    return values if all(type(value) is int or value is None or value is Undefined for value in values) else None


def _is_int(kind: TypeNode) -> bool:
    named = kind.type if isinstance(kind, NonNullTypeNode) else kind
    return isinstance(named, NamedTypeNode) and named.name.value == "Int"


def check(found: Measure, settings: Settings) -> None:
    """Raises QueryTooComplex with the first number that is too large."""
    for name, number, limit in (
        ("levels deep", found.depth, settings.query_depth_max),
        ("fields with fragments expanded", found.fields, settings.query_fields_max),
        ("aliases", found.aliases, settings.query_aliases_max),
        ("directives", found.directives, settings.query_directives_max),
        ("points of cost (fields, multiplied by page sizes)", found.cost, settings.query_cost_max),
    ):
        if number > limit:
            number = min(number, 2**53 - 1)  # beyond that JSON readers lose digits
            message = f"This operation is {number} {name}; the limit is {limit}. Ask for less, or in several operations."
            raise QueryTooComplex(message, found=number, limit=limit)


class _Ruler:
    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, object]
    ) -> None:
        self._schema = schema
        self._operation = operation
        self._variables = variables
        self._defaults = {v.variable.name.value: v.default_value for v in operation.variable_definitions or ()}
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._known: dict[str, Measure] = {}

    def whole(self) -> Measure:
        root = self._schema.get_root_type(self._operation.operation)
        return _directives(self._operation).beside(self._selections(self._operation.selection_set, root))

    def _selections(self, selections: SelectionSetNode | None, parent: GraphQLNamedType | None) -> Measure:
        total = Measure()
        for selection in selections.selections if selections else ():
            total = total.beside(_directives(selection)).beside(self._selection(selection, parent))
        return total

    def _selection(self, selection: SelectionNode, parent: GraphQLNamedType | None) -> Measure:
        if isinstance(selection, FieldNode):
            return self._field(selection, parent)
        if isinstance(selection, InlineFragmentNode):
            condition = selection.type_condition
            return self._selections(selection.selection_set, self._schema.get_type(condition.name.value) if condition else parent)
        assert isinstance(selection, FragmentSpreadNode)
        return self._fragment(selection.name.value)

    def _fragment(self, name: str) -> Measure:
        if name not in self._known:
            self._known[name] = Measure()  # what a fragment that spreads itself adds; validation refuses it by name
            fragment = self._fragments.get(name)
            if fragment:
                inside = self._selections(fragment.selection_set, self._schema.get_type(fragment.type_condition.name.value))
                self._known[name] = _directives(fragment).beside(inside)
        return self._known[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> Measure:
        name = node.name.value
        field = _META_FIELDS.get(name)
        if field is None and isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
            field = parent.fields.get(name)
        inside = self._selections(node.selection_set, get_named_type(field.type) if field else None)
        return Measure(
            depth=1 + inside.depth,
            cost=1 + self._page_size(node, field) * inside.cost,
            fields=1 + inside.fields,
            aliases=(node.alias is not None) + inside.aliases,
            directives=inside.directives,
            introspects=name in ("__schema", "__type") or inside.introspects,
        )

    def _page_size(self, node: FieldNode, field: GraphQLField | None) -> int:
        if field is None or not ("first" in field.args or "last" in field.args):
            return 1
        given = {a.name.value: a.value for a in node.arguments or () if a.name.value in ("first", "last")}
        sizes = [self._rows(name, value) for name, value in given.items()]
        return max((size for size in sizes if size is not None), default=PAGE_DEFAULT)

    def _rows(self, argument: str, value: ValueNode | None) -> int | None:
        if isinstance(value, VariableNode):
            name = value.name.value
            if name in self._variables:
                return _page(argument, self._variables[name])
            return self._rows(argument, self._defaults.get(name))
        if isinstance(value, IntValueNode):
            return _page(argument, int(value.value) if len(value.value) < 12 else PAGE_MAX + 1)
        return None  # null, or of another type, which validation refuses


def _page(argument: str, size: object) -> int | None:
    if isinstance(size, float) and size.is_integer():
        size = int(size)  # GraphQL takes 5.0 for the integer 5
    if not isinstance(size, int) or isinstance(size, bool):
        return None
    if not 1 <= size <= PAGE_MAX:
        raise BadRequest(f"`{argument}` must be between 1 and {PAGE_MAX}; go on with `after` or `before` for more.", path=(argument,))
    return size


def _directives(node: SelectionNode | OperationDefinitionNode | FragmentDefinitionNode) -> Measure:
    return Measure(directives=len(node.directives or ()))
