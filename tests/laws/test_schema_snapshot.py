"""The law of the printed schema: schema/schema.graphql is what the code says, and every part of it is described."""

from collections.abc import Iterator

from graphql import (
    GraphQLEnumType,
    GraphQLNamedType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
)

from schema.printing import SNAPSHOT, printed


def undescribed(schema: GraphQLSchema) -> list[str]:
    """Types, fields, arguments, inputs and enum values without a sentence."""
    ours = [named for named in schema.type_map.values() if not is_introspection_type(named) and not is_specified_scalar_type(named)]
    return sorted(place for named in ours for place, description in _described(named) if not (description or "").strip())


def _described(named: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    yield named.name, named.description
    parts = named.values if isinstance(named, GraphQLEnumType) else getattr(named, "fields", {})
    for name, part in parts.items():
        yield f"{named.name}.{name}", part.description
        yield from ((f"{named.name}.{name}({each}:)", argument.description) for each, argument in getattr(part, "args", {}).items())


def test_the_committed_schema_is_what_the_code_says() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == printed(), "The schema changed. If that was meant: python -m schema.printing"


def test_every_part_of_the_schema_has_a_sentence() -> None:
    assert undescribed(build_schema(printed())) == []


def test_a_part_without_a_sentence_is_found() -> None:
    planted = build_schema("""
        scalar Color
        "Any." enum Size { "Not big." SMALL BIG }
        "A lamp." type Lamp { size: Size "Its color." color(exact: Boolean "How." mode: Size): Color }
        " " input Wish { "Which." lamp: Int size: Size }
        "All." type Query { "One." lamp: Lamp "Another." wished("By whom." by: Wish): Lamp }
    """)

    assert undescribed(planted) == ["Color", "Lamp.color(exact:)", "Lamp.size", "Size.BIG", "Wish", "Wish.size"]
