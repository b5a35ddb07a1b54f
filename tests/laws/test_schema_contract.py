"""The law of the contract: what clients were promised is there as promised."""

from schema.printing import printed
from tests.laws.contract import CONTRACT, broken, missing


def test_everything_promised_is_there() -> None:
    assert missing(printed(), CONTRACT) == []


def test_nothing_is_there_in_another_form_than_promised() -> None:
    assert broken(printed(), CONTRACT) == []


# ── the law bites ──
PROMISED = """
    interface Node { id: ID! }
    enum Color { RED GREEN }
    input Filter { text: String }
    scalar Unsaid
    type Lamp implements Node { id: ID! color: Color! room: Room }
    type Room { name: String! }
    type Query { lamp(id: ID!, filter: Filter, size: Int = 3): Lamp }
    input PaintInput { lamp: ID color: Unsaid }
    type PaintPayload { lamp: Lamp }
    type Mutation { paint(input: PaintInput!): PaintPayload! }
    type Subscription { lamp: Lamp! }
"""


def test_a_schema_that_keeps_the_contract_may_have_more() -> None:
    more = """
        interface Node { id: ID! }
        enum Color { RED GREEN BLUE }
        input Filter { text: String limit: Int! = 3 }
        type Lamp implements Node { id: ID! color: Color! room: Room age: Int }
        type Room { name: String! }
        type Query { lamp(id: ID!, filter: Filter, size: Int = 3, more: Int): Lamp other: Int }
        input PaintInput { lamp: ID! color: Color! }
        type PaintPayload { lamp: Lamp }
        type Mutation { paint(input: PaintInput!): PaintPayload! }
        type Subscription { lamp: Lamp! }
    """

    assert missing(more, PROMISED) == []
    assert broken(more, PROMISED) == []


def test_what_is_missing_is_named_without_what_hangs_on_it() -> None:
    less = """
        enum Color { RED }
        input Filter { words: String }
        type Lamp { id: ID! color: Color! }
        type Query { lamp(id: ID!, filter: Filter): Lamp }
        type Mutation { wash: Int }
    """

    assert missing(less, PROMISED) == [
        *("Color.GREEN", "Filter.text", "Lamp.room", "Mutation.paint", "Query.lamp(size:)", "Subscription"),
    ]


def test_every_other_form_is_found() -> None:
    other = """
        scalar Color
        input Filter { text: String kind: Int! }
        type Lamp { id: ID! color: Color room: Room! }
        type Room { name: String! }
        type Query { lamp(id: ID, filter: Filter, size: Int = 4, key: ID!): Lamp }
        input PaintInput { lamp: String color: Color }
        type PaintPayload { lamp: Lamp }
        type Mutation { paint(input: PaintInput!): PaintPayload! }
        type Subscription { lamp: Lamp! }
    """

    assert broken(other, PROMISED) == [
        "Color is a GraphQLScalarType, promised as a GraphQLEnumType",
        "Filter demands kind, which nobody was told",
        "Lamp is no Node",
        "Lamp.color is Color, promised as Color!",
        "Lamp.room is Room!, promised as Room",
        "PaintInput.lamp is String, promised as ID",
        "Query.lamp demands key, which nobody was told",
        "Query.lamp(id:) is ID, promised as ID!",
        "Query.lamp(size:) is Int = 4, promised as Int = 3",
    ]
