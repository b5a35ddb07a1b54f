"""Operations written from the schema itself: whatever takes an id is given one, whatever can be selected is."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)

from tests.firmware_house import Sent, binary
from tests.walls.world import NOWHERE, World, a_key

DEPTH = 4
# What an input field or an argument names, where its own name says it; `id` is of the type that the field is about.
NAMED = {
    "productId": "product", "deviceId": "device", "deviceIds": "device", "organization": "organization", "group": "group", "parent": "group",
    "memberId": "Member", "customerId": "Customer", "apiUserId": "ApiUser", "groupId": "DeviceGroup", "importId": "Import", "rolloutId": "Rollout",
    "clientId": "OAuthClient", "moveToGroup": "group", "externalId": "external",
    "Product.group.name": "group", "Query.product.slug": "slug", "Query.organization.slug": "organization", "UpdateOrganizationInput.slug": "organization", "DeviceFilter.customer": "Customer",
}  # fmt: skip
TYPES = sorted((kind for kind in NOWHERE.names if kind[0].isupper()), key=len, reverse=True)
# What looks like an id and names nothing that is behind a wall: one's own word for a call, a new key, a setup of nobody's organization.
NO_NAMES = {"clientMutationId", "CreateCustomerInput.externalId", "CreateOrganizationInput.cardSetupId", "setupId"}
_LOOKS_LIKE_AN_ID = re.compile(r"(?:\A|[a-z])(?:[iI]ds?|[gG]roups?|[pP]arent|[sS]lug|[oO]rganizations?|[cC]ustomers?|[oO]wner)\Z")
# What is not an id, where something particular is needed to get past what is checked before it.
GIVEN: dict[str, Any] = {
    "role": "VIEWER", "scopes": ["devices:read"], "answers": [{"key": "purpose", "answer": "x"}], "platform": "PHOTON", "when": "ON_RESET",
    "email": "nobody-at-all@example.com", "publicKey": a_key(), "username": "somebody", "to": "2999-01-01T00:00:00Z",
    "redirectUri": "https://app.example.com/back", "stages": [{"percent": 100, "maxFailurePercent": 0, "healthyForSeconds": 1}],
}  # fmt: skip


# Of a root of Query, beside the id it is asked by.
BESIDE = {"version": 1}


def unknown_ids(schema: GraphQLSchema) -> list[str]:
    """Arguments and input fields that are ids by their type or their name, and of which nothing here knows what they name."""
    found = []
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            found += [(kind.name, name, field) for name, field in kind.fields.items()]
        elif isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            found += [(f"{kind.name}.{name}", each, of) for name, field in kind.fields.items() for each, of in field.args.items()]
    return [
        f"{owner}.{name}"
        for owner, name, of in found
        if (get_named_type(of.type).name in ("ID", "DeviceID") or _is_called_like_one(name, of))
        and kind_of(owner, name, owner) not in NOWHERE.names
        and not {name, f"{owner}.{name}"} & NO_NAMES
        and owner not in ("Query.node", "Query.nodes")
    ]


def _is_called_like_one(name: str, of: GraphQLInputField | GraphQLArgument) -> bool:
    return get_named_type(of.type).name in ("String", "Int") and bool(_LOOKS_LIKE_AN_ID.search(name))


def kind_of(owner: str, name: str, about: str) -> str | None:
    """What an argument or input field names: a kind of World.names, or None for no id at all."""
    if f"{owner}.{name}" in NO_NAMES:
        return None
    if f"{owner}.{name}" in NAMED:
        return NAMED[f"{owner}.{name}"]
    if name in NAMED:
        return NAMED[name]
    if name in ("id", "ids"):
        return next((kind for kind in TYPES if kind.lower() in about.lower()), "any")
    return None


# ── mutations ──
def ids_of(mutation: str, schema: GraphQLSchema) -> dict[str, str]:
    """The fields of a mutation's input that name something, with the kind of it."""
    found = {name: kind_of(kind.name, name, mutation) for kind in [input_of(mutation, schema)] for name in kind.fields}
    return {name: kind for name, kind in found.items() if kind}


def input_of(mutation: str, schema: GraphQLSchema) -> GraphQLInputObjectType:
    assert schema.mutation_type is not None
    kind = get_named_type(schema.mutation_type.fields[mutation].args["input"].type)
    assert isinstance(kind, GraphQLInputObjectType)
    return kind


def an_input(mutation: str, schema: GraphQLSchema, own: World, only: str | None = None) -> dict[str, Any]:
    """Whatever the input needs, its ids out of `own`; of several that exclude each other the one called `only`."""
    ids, kind = ids_of(mutation, schema), input_of(mutation, schema)
    given = {name: _value(name, field, own) for name, field in kind.fields.items() if is_required_input_field(field) and name not in ids}
    wanted = {name for name in ids if is_required_input_field(kind.fields[name])} | ({only} if only else set())
    if mutation in ("importDevices", "lockAndFlash", "unlockDevices") and (only != "group" or mutation == "importDevices"):
        wanted.add("deviceIds")
    if mutation.endswith("GroupAccess") and not wanted & {"memberId", "customerId", "apiUserId"}:
        wanted.add("customerId")
    for name in wanted:
        given[name] = in_list(kind.fields[name], own.names[ids[name]])
    return given


def in_list(field: GraphQLInputField | GraphQLArgument, value: Any) -> Any:
    inner = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
    return [value] if isinstance(inner, GraphQLList) else value


def _value(name: str, field: GraphQLInputField, own: World) -> Any:
    if name == "binary":
        return Sent(binary(own.names["product"], 2))
    if name in GIVEN:
        return GIVEN[name]
    kind = get_named_type(field.type)
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    return {"Int": 1, "Boolean": True, "DateTime": "2999-01-01T00:00:00Z"}.get(kind.name, own.word)


# ── selections ──
def selections(kind: Any, schema: GraphQLSchema) -> list[str]:
    """What can be selected from this type in at most DEPTH steps: each object by itself, so that one refusal hides no other.

    Of all the ways there, as many as lead through every two steps that can follow each other.
    """
    found: list[str] = []
    taken: set[tuple[str, str]] = set()
    coming = [("%", each, "", 0) for each in _concrete(kind, schema)]
    for way, (fragment, target), last, depth in coming:  # grows while it is read: the shortest ways come first
        inside = way.replace("%", f"{fragment} {{ % }}" if fragment else "%")
        leaves = [_called(target, name, field) for name, field in target.fields.items() if is_leaf_type(get_named_type(field.type))]
        found.append(inside.replace("%", " ".join(["__typename", *leaves])))
        for name, field in target.fields.items():
            step, next_kind = f"{target.name}.{name}", get_named_type(field.type)
            cost = 0 if name in ("nodes", "node", "pageInfo") else 1
            if is_leaf_type(next_kind) or depth + cost > DEPTH or (last, step) in taken:
                continue
            taken.add((last, step))
            onward = inside.replace("%", f"{_called(target, name, field)} {{ % }}")
            coming += [(onward, each, last if cost == 0 else step, depth + cost) for each in _concrete(next_kind, schema)]
    return found


def _concrete(kind: Any, schema: GraphQLSchema) -> list[tuple[str, GraphQLObjectType]]:
    if isinstance(kind, GraphQLInterfaceType | GraphQLUnionType):
        return [(f"... on {each.name}", each) for each in schema.get_possible_types(kind)]
    return [("", kind)]


def _called(kind: GraphQLObjectType, name: str, field: GraphQLField) -> str:
    given = {each: _plain(kind, name, each, argument) for each, argument in field.args.items() if is_required_argument(argument)}
    return f"{name}{written(given)}"


def _plain(kind: GraphQLObjectType, name: str, argument: str, of: GraphQLArgument) -> Any:
    named = kind_of(f"{kind.name}.{name}", argument, kind.name)
    return NOWHERE.names[named] if named else 1 if get_named_type(of.type).name == "Int" else "x"


def written(arguments: Mapping[str, Any]) -> str:
    return f"({', '.join(f'{name}: {literal(value)}' for name, value in arguments.items())})" if arguments else ""


def literal(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {literal(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value)


def filters_and_ids(schema: GraphQLSchema) -> Iterator[tuple[str, str, str, tuple[str, ...], str]]:
    """Every field below the roots that can be asked by an id or a cursor: type, field, argument, path into it, and what it names."""
    for kind in schema.type_map.values():
        if (
            isinstance(kind, GraphQLObjectType)
            and not kind.name.startswith("__")
            and kind.name not in ("Query", "Mutation", "Subscription")
        ):
            for name, field in kind.fields.items():
                for argument, of in field.args.items():
                    target = get_named_type(of.type)
                    if isinstance(target, GraphQLInputObjectType):
                        for inner in target.fields:
                            if named := kind_of(target.name, inner, target.name):
                                yield kind.name, name, argument, (inner,), named
                    elif target.name == "Cursor":
                        yield kind.name, name, argument, (), "cursor"
                    elif named := kind_of(f"{kind.name}.{name}", argument, kind.name):
                        yield kind.name, name, argument, (), named
