"""Writes a message of a subscription in one expression, where everything it shows stands in the message.

Its plan says the same level by level. For one small object that takes ten times as long; and of a thousand streams that differ each
writes its own.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from graphql import GraphQLEnumType, GraphQLField, GraphQLNonNull, GraphQLObjectType, GraphQLScalarType
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet

from schema.leaves import Surprise, leaf
from schema.reading import Attribute, Computed, Reading

AtOnce: TypeAlias = Callable[[Any], dict[str, Any]]  # message → data; raises whatever it is where graphql-core has to answer


class _More(Exception):
    """A door has to be asked, or there is more than one object in another."""


def at_once(
    key: str,
    kind: Any,
    details: FieldDetailsList,
    fields_of: Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet],
    field_of: Callable[[GraphQLObjectType, FieldDetailsList], GraphQLField],
    reading_of: Callable[[GraphQLField], Reading],
) -> AtOnce | None:
    """What writes `{key: message}` for messages of a type; None where there is more to it."""
    expression = _Expression(fields_of, field_of, reading_of)
    try:
        return expression.function(f"{{{key!r}: {expression.value(kind, details, 'message')}}}")
    except _More:
        return None


class _Expression:
    """The text of it, and what the names in it stand for. In the text are names of the schema and of GraphQL alone, besides our own."""

    def __init__(
        self,
        fields_of: Callable[[GraphQLObjectType, FieldDetailsList], GroupedFieldSet],
        field_of: Callable[[GraphQLObjectType, FieldDetailsList], GraphQLField],
        reading_of: Callable[[GraphQLField], Reading],
    ) -> None:
        self._fields_of, self._field_of, self._reading_of = fields_of, field_of, reading_of
        self._names: dict[str, Any] = {"unforeseen": _unforeseen}
        self._rows = 0

    def function(self, text: str) -> AtOnce:
        exec(compile(f"def write(message):\n    return {text}", "<message>", "exec"), self._names)  # noqa: S102  # see the class
        write: AtOnce = self._names["write"]
        return write

    def value(self, kind: Any, details: FieldDetailsList, read: str) -> str:
        """What is sent for the value that `read` reads."""
        inner, is_null_allowed = (kind.of_type, False) if isinstance(kind, GraphQLNonNull) else (kind, True)
        if isinstance(inner, GraphQLScalarType | GraphQLEnumType):
            return leaf(inner, is_null_allowed=is_null_allowed).expression(read, self._named)
        if not isinstance(inner, GraphQLObjectType):
            raise _More
        row = f"row{self._rows}"
        self._rows += 1
        null = "None" if is_null_allowed else "unforeseen()"
        return f"({null} if ({row} := {read}) is None else {self._object(inner, details, row)})"

    def _object(self, kind: GraphQLObjectType, details: FieldDetailsList, row: str) -> str:
        entries = [f"{key!r}: {self._entry(kind, field, row)}" for key, field in self._fields_of(kind, details).items()]
        text = f"{{{', '.join(entries)}}}"
        classes = getattr(kind.is_type_of, "classes", None)
        return text if classes is None else f"({text} if isinstance({row}, {self._named(classes)}) else unforeseen())"

    def _entry(self, parent: GraphQLObjectType, details: FieldDetailsList, row: str) -> str:
        if details[0].node.name.value == "__typename":
            return repr(parent.name)
        field = self._field_of(parent, details)
        return self.value(field.type, details, self._read(self._reading_of(field), row))

    def _read(self, reading: Reading, row: str) -> str:
        match reading:
            case Attribute(name):
                return f"{row}.{name}"
            case Computed(of):
                return f"{self._named(of)}({row})"
        raise _More

    def _named(self, value: object) -> str:
        name = f"f{len(self._names)}"
        self._names[name] = value
        return name


def _unforeseen() -> Any:
    raise Surprise("a null, or a row of another type")
