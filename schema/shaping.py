"""Shapes the values found at one place of a document into what is sent: all of one kind at once."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias

from graphql import GraphQLEnumType, GraphQLScalarType
from graphql.execution.values import VariableValues

from schema.leaves import Surprise, leaf

Values: TypeAlias = list[Any]


@dataclass(slots=True)
class Run:
    """One operation under way."""

    context: Any
    variables: VariableValues


@dataclass(frozen=True, slots=True)
class Part:
    """Turns what was found at one place of the document into what is sent. `waits`: whether it asks doors that may take their time.

    Those are asked side by side. A door for all rows reads by key, and is over before a task for it would have begun.
    """

    shape: Callable[[Values, Run], Awaitable[Values]]
    waits: bool = False


def leaves(kind: GraphQLScalarType | GraphQLEnumType) -> Part:
    shape_one = leaf(kind, is_null_allowed=False).shape

    async def shape(values: Values, run: Run) -> Values:
        return [shape_one(value) for value in values]

    return Part(shape)


def never_null(inner: Part) -> Part:
    async def shape(values: Values, run: Run) -> Values:
        if NoneType in set(map(type, values)):
            raise Surprise("null")
        return await inner.shape(values, run)

    return Part(shape, inner.waits)


def or_null(inner: Part) -> Part:
    async def shape(values: Values, run: Run) -> Values:
        if NoneType not in set(map(type, values)):
            return await inner.shape(values, run) if values else []
        present = [value for value in values if value is not None]
        next_one = iter(await inner.shape(present, run) if present else present)
        return [None if value is None else next(next_one) for value in values]

    return Part(shape, inner.waits)


def each_of(inner: Part) -> Part:
    async def shape(values: Values, run: Run) -> Values:
        for value in values:
            if not isinstance(value, list | tuple):
                raise Surprise("no list")
        if len(values) == 1:
            return [await inner.shape(list(values[0]), run)]
        items = iter(await inner.shape([item for value in values for item in value], run))
        return [[next(items) for _ in value] for value in values]

    return Part(shape, inner.waits)


def only(classes: tuple[type, ...], inner: Part) -> Part:
    async def shape(values: Values, run: Run) -> Values:
        for kind in set(map(type, values)):
            if not issubclass(kind, classes):
                raise Surprise("a row of another type")
        return await inner.shape(values, run)

    return Part(shape, inner.waits)


def by_class(parts: Sequence[tuple[tuple[type, ...], Part]]) -> Part:
    async def shape(values: Values, run: Run) -> Values:
        kinds = [_kind_of(value, parts) for value in values]
        found: dict[int, Iterator[Any]] = {}
        for kind in sorted(set(kinds)):
            mine = [value for value, its in zip(values, kinds, strict=True) if its == kind]
            found[kind] = iter(await parts[kind][1].shape(mine, run))
        return [next(found[kind]) for kind in kinds]

    return Part(shape, any(part.waits for _, part in parts))


def _kind_of(value: object, parts: Sequence[tuple[tuple[type, ...], Part]]) -> int:
    for number, (classes, _) in enumerate(parts):
        if isinstance(value, classes):
            return number
    raise Surprise("a row of no type")
