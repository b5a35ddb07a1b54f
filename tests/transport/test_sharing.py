"""What may be shared: the fields of the log's own types look at nobody, and only what decides an answer keeps streams apart."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from graphql import GraphQLObjectType, get_named_type, is_leaf_type, parse

from realtime.cursor import Cursor, Gap, GapReason
from realtime.log import Entry
from resolvers.live import DeviceStatusMessage, EventMessage
from schema.build import build_schema
from schema.event import OF_THE_LOG
from transport.documents import Prepared
from transport.gate import Asked
from transport.sharing import Likeness, likeness

SCHEMA = build_schema()._schema
PLACE = Cursor("0" * 16, 7, 1)
ENTRY = Entry(7, 1094, "event", "a", datetime.now(UTC), "a" * 24, "x", None, 60, 3, None, 1, "0" * 16)
ROWS: dict[str, Any] = {
    "EventMessage": EventMessage(PLACE, ENTRY),
    "DeviceStatusMessage": DeviceStatusMessage(PLACE, datetime.now(UTC), None, "ONLINE"),
    "DeviceEvent": ENTRY,
    "StreamGap": Gap(GapReason.RETENTION, PLACE, PLACE),
}


class NobodyAsks:
    """A context that tells nothing of who asks."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"looked at {name}")


@pytest.mark.parametrize("name", sorted(OF_THE_LOG))
async def test_the_own_fields_of_what_stands_in_the_log_never_look_at_who_asks(name: str) -> None:
    """Whoever adds a field that does, takes its type off the list, or gives it a type of its own."""
    kind = SCHEMA.type_map[name]
    assert isinstance(kind, GraphQLObjectType)
    info = SimpleNamespace(context=NobodyAsks(), schema=SCHEMA)
    for field in kind.fields.values():
        if not is_leaf_type(get_named_type(field.type)) and get_named_type(field.type).name not in OF_THE_LOG:
            continue
        found = field.resolve(ROWS[name], info)  # type: ignore[misc,arg-type]  # the parts of an info that resolvers see
        if hasattr(found, "__await__"):
            await found


def alike(query: str, **variables: Any) -> Likeness:
    document = parse(query)
    return likeness(Asked(query, None, variables), Prepared(document, document.definitions[0], 0), SCHEMA, OF_THE_LOG)  # type: ignore[arg-type]  # an operation


@pytest.mark.parametrize(
    ("fields", "looks"),
    [
        ("cursor event { name data deviceId } gap { from reason }", False),
        ("__typename cursor", False),
        ("event { ...F } } } fragment F on DeviceEvent { name ... @include(if: true) { data", False),
        ("event { device { deviceId } }", True),
        ("event { ...F } } } fragment F on DeviceEvent { device { online", True),
    ],
)
def test_an_operation_that_leaves_the_log_depends_on_who_asks(fields: str, looks: bool) -> None:
    assert alike(f"subscription {{ events(productId: 1) {{ {fields} }} }}").looks is looks


def test_the_place_to_begin_at_does_not_count_and_everything_else_does() -> None:
    query = "subscription ($p: Int!, $a: Cursor, $s: String) { events(productId: $p, after: $a, stream: $s) { cursor } }"

    assert alike(query, p=1, a="x", s="y") == alike(query, a="z", p=1) == alike(query, p=1)
    assert alike(query, p=1) != alike(query, p=2)
    assert alike(query, p=1) != alike(query + " ", p=1)


def test_a_cursor_that_is_used_twice_counts() -> None:
    query = "subscription ($a: Cursor) { events(productId: 1, after: $a) { event { device { events(after: $a) { totalCount } } } } }"

    assert alike(query, a="x") != alike(query, a="y")
