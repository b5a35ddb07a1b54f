"""Queries made by chance over a whole schema: aliases, fragments of both kinds, variables, @skip and @include, pages, nodes, nonsense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
)
from hypothesis import strategies as st

DEPTH = 6
FIELDS = 4  # of one selection, at most
WHOLE = 40  # fields of a document, after which there are no more objects


@dataclass(frozen=True)
class Document:
    text: str
    variables: Mapping[str, Any]


@dataclass
class _Sheet:
    """One document while it is written. `values` are what arguments may be given, by their names; chance takes others, too."""

    schema: GraphQLSchema
    draw: Any
    values: Mapping[str, Sequence[Any]]
    variables: dict[str, Any] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    fragments: list[str] = field(default_factory=list)
    names: int = 0

    def chance(self, one_in: int) -> bool:
        return bool(self.draw(st.integers(1, one_in)) == one_in)

    def name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # ── selections ──
    def selection(self, kind: GraphQLNamedType, depth: int, prefix: str = "") -> str:
        assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
        if isinstance(kind, GraphQLInterfaceType):
            return self._of_an_interface(kind, depth)
        leaves = [name for name, each in kind.fields.items() if is_leaf_type(get_named_type(each.type))]
        deeper = [name for name in kind.fields if name not in leaves] if depth > 0 and self.names < WHOLE else []
        able = leaves + deeper * 2
        chosen = self.draw(st.lists(st.sampled_from(sorted(able)), min_size=1, max_size=FIELDS)) if able else []
        parts = [self._field(name, kind.fields[name], depth, prefix) for name in chosen]
        if self.chance(4) or not parts:
            parts.append(f"{self.name('t')}: __typename")
        return "{ " + " ".join(parts + self._fragments(kind, depth, prefix)) + " }"

    def _of_an_interface(self, kind: GraphQLInterfaceType, depth: int) -> str:
        """Fields of different types must not meet under one name: they carry their type's."""
        possible = sorted(each.name for each in self.schema.get_possible_types(kind))
        chosen = self.draw(st.lists(st.sampled_from(possible), max_size=3, unique=True))
        parts = [f"... on {name} {self.selection(self.schema.type_map[name], depth, f'{name}_')}" for name in chosen]
        return "{ __typename id " + " ".join(parts) + " }"

    def _fragments(self, kind: GraphQLObjectType, depth: int, prefix: str) -> list[str]:
        if depth <= 1 or not self.chance(5):
            return []
        inside = self.selection(kind, depth - 1, prefix)
        if self.chance(2):
            return [f"...{self.draw(st.sampled_from(['', f' on {kind.name}']))}{self._directive()} {inside}"]
        name = self.name("F")
        self.fragments.append(f"fragment {name} on {kind.name} {inside}")
        return [f"...{name}{self._directive()}"] * (2 if self.chance(4) else 1)

    def _field(self, name: str, each: GraphQLField, depth: int, prefix: str) -> str:
        arguments = self._arguments(each.args)
        alias = self.name(f"{prefix}{name}_") if arguments or prefix or not is_leaf_type(get_named_type(each.type)) else name
        named = get_named_type(each.type)
        below = "" if is_leaf_type(named) else f" {self.selection(named, depth - 1)}"
        return f"{alias}: {name}{arguments}{self._directive()}{below}"

    def _directive(self) -> str:
        if not self.chance(8):
            return ""
        value = self.draw(st.booleans())
        word = self.draw(st.sampled_from(["skip", "include"]))
        return f" @{word}(if: {self._variable('Boolean!', value) if self.chance(2) else str(value).lower()})"

    # ── values ──
    def _arguments(self, arguments: Mapping[str, GraphQLArgument]) -> str:
        given = [f"{name}: {self._argument(name, each)}" for name, each in arguments.items() if self._is_given(each)]
        return f"({', '.join(given)})" if given else ""

    def _is_given(self, argument: GraphQLArgument) -> bool:
        return isinstance(argument.type, GraphQLNonNull) or self.chance(3)

    def _argument(self, name: str, argument: GraphQLArgument) -> str:
        if not isinstance(argument.type, GraphQLNonNull) and self.chance(8):
            return "null"
        value = self._value(name, argument.type)
        return self._variable(str(argument.type), value) if self.chance(2) else _literal(value, argument.type)

    def _variable(self, kind: str, value: Any) -> str:
        name = self.name("v")
        self.declared.append(f"${name}: {kind}")
        self.variables[name] = value
        return f"${name}"

    def _value(self, name: str, kind: Any) -> Any:
        if isinstance(kind, GraphQLNonNull):
            return self._value(name, kind.of_type)
        if isinstance(kind, GraphQLList):
            return [self._value(name, kind.of_type) for _ in range(self.draw(st.integers(0, 3)))]
        if isinstance(kind, GraphQLInputObjectType):
            able = [each for each, its in kind.fields.items() if not isinstance(get_named_type(its.type), GraphQLInputObjectType)]
            chosen = self.draw(st.lists(st.sampled_from(sorted(able)), max_size=2, unique=True))
            return {each: self._value(each, kind.fields[each].type) for each in chosen}
        if name in self.values:
            return self.draw(st.sampled_from(self.values[name]))
        if isinstance(kind, GraphQLEnumType):
            return self.draw(st.sampled_from(sorted(kind.values)))
        assert isinstance(kind, GraphQLScalarType)
        return self.draw(_SCALARS[kind.name])


_SCALARS: Mapping[str, st.SearchStrategy[Any]] = {
    "Int": st.sampled_from([1, 2, 3, 50]),
    "String": st.sampled_from(["a", "lamp", "x/y", ""]),
    "Boolean": st.booleans(),
    "DateTime": st.sampled_from(["2020-01-01T00:00:00Z", "2036-01-01T00:00:00+02:00"]),
    "Cursor": st.sampled_from(["", "bm9uc2Vuc2U"]),
}


def _literal(value: Any, kind: Any) -> str:
    kind = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_literal(each, kind.fields[name].type)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(each, kind.of_type) for each in value) + "]"
    if isinstance(kind, GraphQLEnumType):
        return str(value)
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'


@st.composite
def documents(draw: Any, schema: GraphQLSchema, values: Mapping[str, Sequence[Any]]) -> Document:
    """A query that is valid but for what only its answer shows; `values` are worth asking for, by the name of the argument."""
    sheet = _Sheet(schema, draw, values)
    assert schema.query_type is not None
    inside = sheet.selection(schema.query_type, DEPTH)
    declared = f"({', '.join(sheet.declared)})" if sheet.declared else ""
    return Document("\n".join([f"query{declared} {inside}", *sheet.fragments]), sheet.variables)
