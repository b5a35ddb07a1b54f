"""How the values of scalars and enums are written: in place where the common ones are known at sight, else by the schema's own type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLEnumType, GraphQLScalarType, Undefined


class Surprise(Exception):
    """Something that only graphql-core has words for."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """`shape` writes any value; `code` does the same as an expression of Python, with {read} and the names of the rest still to be put."""

    shape: Callable[[Any], Any]
    code: str = "{shape}({read})"
    known: Mapping[Any, str] = field(default_factory=dict)
    coerce: Callable[[Any], Any] = str

    def expression(self, read: str, named: Callable[[object], str]) -> str:
        """`code` for the value that `read` reads; `named` puts a name for a thing into the text around it."""
        return self.code.format(read=read, shape=named(self.shape), known=named(self.known), coerce=named(self.coerce))


# What JSON holds as it is. Strings and whole numbers are told by their very type: a bool is an int, and an enum may be a str.
_TEXT = "(value if type(value := {read}) is str else {shape}(value))"
_CODE = {
    "ID": _TEXT,
    "String": _TEXT,
    "Int": "(value if type(value := {read}) is int and -2147483648 <= value <= 2147483647 else {shape}(value))",
    "DateTime": "({coerce}(value) if (value := {read}) is not None else {shape}(value))",  # which is a text, whatever it is told
    "Boolean": "(value if (value := {read}) is True or value is False else {shape}(value))",
}


def leaf(kind: GraphQLScalarType | GraphQLEnumType, *, is_null_allowed: bool) -> Leaf:
    shape = _shape(kind.coerce_output_value, is_null_allowed)
    if isinstance(kind, GraphQLEnumType):
        known = {each.value: name for name, each in kind.values.items() if isinstance(each.value, str)}
        return Leaf(shape, "({known}.get(value := {read}) or {shape}(value))", known)
    if kind.coerce_output_value is str:
        return Leaf(shape, _TEXT)
    return Leaf(shape, _CODE.get(kind.name, "{shape}({read})"), coerce=kind.coerce_output_value)


def _shape(coerce: Callable[[Any], Any], is_null_allowed: bool) -> Callable[[Any], Any]:
    def shape(value: Any) -> Any:
        if value is None and is_null_allowed:
            return None
        coerced = None if value is None else coerce(value)
        if coerced is None or coerced is Undefined:
            raise Surprise("null")
        return coerced

    return shape
