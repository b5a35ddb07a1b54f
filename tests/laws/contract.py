"""Holds a schema against the contract: what is missing, and what is there in another form.

`python -m tests.laws.contract` prints both.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    get_named_type,
    is_required_argument,
    is_required_input_field,
)

from schema.printing import printed

CONTRACT = Path(__file__).with_name("contract.graphql").read_text(encoding="utf-8")
ROOTS = ("Query", "Mutation", "Subscription")
UNSAID = "Unsaid"  # a type that the contract leaves to the schema

Given = GraphQLArgument | GraphQLInputField
Pair = tuple[str, object, object]  # a place, what the schema has there (None: nothing), what is promised there


def missing(schema: str, contract: str) -> list[str]:
    """What is promised and not there, as `Type.field`, `Type.field(argument:)`, `Enum.VALUE` or, for a root, `Type`.

    Both are walked from the roots: of a field that is missing nobody asks for the type.
    """
    return sorted(place for place, found, _ in _pairs(build_schema(schema), build_schema(contract)) if found is None)


def broken(schema: str, contract: str) -> list[str]:
    """What is there in another form than promised, and what a client of the contract would now have to give besides."""
    pairs = _pairs(build_schema(schema), build_schema(contract))
    return sorted(fault for place, found, wanted in pairs if found is not None for fault in _faults(place, found, wanted))


# ── walking both from the roots ──
def _pairs(schema: GraphQLSchema, contract: GraphQLSchema) -> Iterator[Pair]:
    ahead, seen = [name for name in ROOTS if name in contract.type_map], set[str]()
    while ahead:
        name = ahead.pop()
        if name in seen or name == UNSAID:
            continue
        seen.add(name)
        found, wanted = schema.type_map.get(name), contract.type_map[name]
        yield name, found, wanted
        for place, part, promise in _parts(name, found, wanted):
            yield place, part, promise
            if part is not None and isinstance(promise, GraphQLField | Given):
                ahead.append(get_named_type(promise.type).name)


def _parts(name: str, found: Any, wanted: GraphQLNamedType) -> Iterator[Pair]:
    alike = type(found) is type(wanted)
    if not alike:
        return
    if isinstance(wanted, GraphQLEnumType):
        yield from ((f"{name}.{value}", found.values.get(value), wanted.values[value]) for value in wanted.values)
    for field, promise in getattr(wanted, "fields", {}).items():
        part = found.fields.get(field)
        yield f"{name}.{field}", part, promise
        if part is not None:
            yield from ((f"{name}.{field}({each}:)", part.args.get(each), asked) for each, asked in getattr(promise, "args", {}).items())


# ── what differs ──
def _faults(place: str, found: object, wanted: object) -> Iterator[str]:
    if type(found) is not type(wanted):
        yield f"{place} is a {type(found).__name__}, promised as a {type(wanted).__name__}"
        return
    if isinstance(found, GraphQLObjectType) and isinstance(wanted, GraphQLObjectType):
        yield from (f"{place} is no {each.name}" for each in wanted.interfaces if each.name not in {i.name for i in found.interfaces})
    if isinstance(found, GraphQLField | Given) and isinstance(wanted, GraphQLField | Given):
        here, there = _type(place, found), _type(place, wanted)
        if UNSAID not in there and here != there:
            yield f"{place} is {here}, promised as {there}"
    yield from (f"{place} demands {name}, which nobody was told" for name in _demanded(found, wanted))


def _type(place: str, field: GraphQLField | Given) -> str:
    """With its default. Of a mutation's input and payload only the kinds are promised, not what may be left out."""
    written = str(field.type)
    if place.split(".")[0].endswith(("Input", "Payload")):
        return written.replace("!", "")
    default = getattr(field.ast_node, "default_value", None)
    return f"{written} = {default.value}" if default else written


def _demanded(found: object, wanted: object) -> list[str]:
    """What must be given although the contract does not know it."""
    if isinstance(found, GraphQLInputObjectType) and isinstance(wanted, GraphQLInputObjectType):
        return [name for name, field in found.fields.items() if name not in wanted.fields and is_required_input_field(field)]
    if isinstance(found, GraphQLField) and isinstance(wanted, GraphQLField):
        return [name for name, given in found.args.items() if name not in wanted.args and is_required_argument(given)]
    return []


if __name__ == "__main__":
    schema = printed()
    found = {"missing": missing(schema, CONTRACT), "broken": broken(schema, CONTRACT)}
    sys.stdout.writelines(f"{what:8} {place}\n" for what, places in found.items() for place in places)
