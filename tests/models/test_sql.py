"""Raw SQL: one text for both databases, exact counts, and times that compare as times."""

import datetime
import json
import uuid
import warnings
from collections.abc import AsyncIterator

import pytest

from models import database, sql
from models.migrating import migrate
from models.transaction import transaction
from settings import Settings
from tests.models.sample_app.tables import Child, Parent

SAMPLE = ("tests.models.sample_app.tables",)
NOON = datetime.datetime(2024, 5, 1, 12, 0, tzinfo=datetime.UTC)
EAST = datetime.timezone(datetime.timedelta(hours=2))


@pytest.fixture
async def opened(empty_settings: Settings) -> AsyncIterator[Settings]:
    await migrate(empty_settings, migrations="tests.models.sample_app.steps")
    async with database.database(empty_settings, models=SAMPLE):
        yield empty_settings


async def parent(name: str, seen_at: datetime.datetime | None = None) -> Parent:
    return await Parent.create(name=name, region="north", seen_at=seen_at)


async def test_a_list_is_one_parameter(opened: Settings) -> None:
    made = [await parent(f"p{number}") for number in range(4)]

    found = await sql.rows("SELECT name FROM sample_parent WHERE id = ANY($1) ORDER BY name", [[made[0].id, made[2].id]])

    assert found == [{"name": "p0"}, {"name": "p2"}]


@pytest.mark.parametrize(("wanted", "names"), [([0, 2], ["p0", "p2"]), ([1], ["p1"]), ([], [])])
async def test_whole_numbers_travel_as_one_text(opened: Settings, wanted: list[int], names: list[str]) -> None:
    made = [await parent(f"p{number}") for number in range(3)]
    ids = sql.numbers(made[number].id for number in wanted)

    found = await sql.tuples("SELECT name FROM sample_parent WHERE id = ANY($1::text::bigint[]) ORDER BY name", [ids])

    assert [tuple(record) for record in found] == [(name,) for name in names]


async def test_placeholders_may_repeat_and_those_in_texts_are_left_alone(opened: Settings) -> None:
    await parent("same")

    found = await sql.rows("SELECT '$1 it''s = ANY($2)' AS text, name FROM sample_parent WHERE name = $1 AND $1 = name", ["same"])

    assert found == [{"text": "$1 it's = ANY($2)", "name": "same"}]


async def test_the_first_row_is_claimed_with_one_text_on_both(opened: Settings) -> None:
    first, _ = await parent("a"), await parent("b")

    taken = await sql.rows(
        "UPDATE sample_parent SET note = $1 "
        "WHERE id = (SELECT id FROM sample_parent ORDER BY name LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
        ["mine"],
    )

    assert taken == [{"id": first.id}]


async def test_counts_are_of_the_rows_the_statement_itself_touched(opened: Settings) -> None:
    one, two = await parent("one"), await parent("two")
    for number in range(3):
        await Child.create(parent=one, label=str(number))

    assert await sql.execute("INSERT INTO sample_child (parent_id, label) VALUES ($1, 'x'), ($1, 'y')", [two.id]) == 2
    assert await sql.execute("UPDATE sample_parent SET note = 'n' WHERE name = $1", ["nobody"]) == 0
    assert await sql.execute("DELETE FROM sample_parent WHERE id = $1", [one.id]) == 1
    assert await Child.all().count() == 2


async def test_the_orm_counts_deleted_rows_without_those_a_cascade_took(opened: Settings) -> None:
    """Tortoise on SQLite said 4: a guard that decides by the count would have been wrong."""
    one = await parent("one")
    for number in range(3):
        await Child.create(parent=one, label=str(number))

    assert await Parent.filter(id=one.id).delete() == 1
    assert await Child.all().count() == 0


async def test_a_filter_finds_the_same_moment_whatever_its_offset(opened: Settings) -> None:
    await parent("noon", NOON.astimezone(EAST))

    assert await Parent.filter(seen_at=NOON).count() == 1
    assert await Parent.filter(seen_at__lte=NOON.astimezone(EAST)).count() == 1
    assert await Parent.filter(seen_at__lt=NOON.astimezone(EAST)).count() == 0
    assert len(await sql.rows("SELECT 1 AS one FROM sample_parent WHERE seen_at >= $1", [NOON.astimezone(EAST)])) == 1
    assert (await Parent.get(name="noon")).seen_at == NOON


async def test_the_order_of_stored_times_is_their_order_in_time(opened: Settings) -> None:
    steps = [0, 1, 500_000, 999_999, 1_000_000, 3_600_000_000]
    times = [NOON + datetime.timedelta(microseconds=step) for step in steps]
    zones = [EAST, datetime.UTC, datetime.timezone(datetime.timedelta(hours=-9))]
    for number, time in enumerate(reversed(times)):
        await sql.execute(
            "INSERT INTO sample_parent (name, region, mood, seen_at) VALUES ($1, 'r', 'CALM', $2)",
            [str(number), time.astimezone(zones[number % 3])],
        )

    found = await sql.rows("SELECT seen_at FROM sample_parent ORDER BY seen_at")

    assert [sql.read_time(row["seen_at"]) for row in found] == times


async def test_a_time_without_a_zone_is_refused_by_raw_sql(opened: Settings) -> None:
    with pytest.raises(ValueError, match="without a zone"):
        await sql.execute("UPDATE sample_parent SET seen_at = $1", [NOON.replace(tzinfo=None)])


async def test_a_time_without_a_zone_is_utc_for_the_orm_and_warned_about(opened: Settings) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        await parent("naive", NOON.replace(tzinfo=None))

    assert await Parent.filter(seen_at=NOON).count() == 1


async def test_json_is_text_both_ways(opened: Settings) -> None:
    one = await parent("one")
    await sql.execute("INSERT INTO sample_child (parent_id, label, extra) VALUES ($1, 'a', $2)", [one.id, json.dumps({"k": ["ü"]})])

    assert json.loads((await sql.rows("SELECT extra FROM sample_child"))[0]["extra"]) == {"k": ["ü"]}
    assert (await Child.get(label="a")).extra == {"k": ["ü"]}


async def test_a_uuid_is_a_value_like_others(opened: Settings) -> None:
    value = uuid.uuid4()

    found = await sql.rows("SELECT CAST($1 AS uuid) AS it" if not sql.is_sqlite() else "SELECT $1 AS it", [value])

    assert str(found[0]["it"]) == str(value)


async def test_many_records_are_written_all_or_none(opened: Settings) -> None:
    insert = "INSERT INTO sample_parent (name, region, mood) VALUES ($1, $2, 'CALM')"

    with pytest.raises(Exception, match="(?i)unique"):
        await sql.execute_many(insert, ((f"n{number % 50}", "r") for number in range(51)))
    assert await Parent.all().count() == 0
    await sql.execute_many(insert, ((f"n{number}", "r") for number in range(50)))

    assert await Parent.all().count() == 50


async def test_copy_belongs_to_the_transaction_around_it(opened: Settings) -> None:
    records = [(f"n{number}", "r", "CALM") for number in range(1000)]
    columns = ["name", "region", "mood"]
    if sql.is_sqlite():
        with pytest.raises(TypeError, match="PostgreSQL only"):
            await sql.copy_in("sample_parent", columns, records)
        return

    with pytest.raises(ZeroDivisionError):
        async with transaction():
            assert await sql.copy_in("sample_parent", columns, records) == 1000
            raise ZeroDivisionError
    assert await Parent.all().count() == 0
    assert await sql.copy_in("sample_parent", columns, iter(records)) == 1000

    assert await Parent.all().count() == 1000


async def test_get_or_create_works_inside_and_outside_of_a_transaction(opened: Settings) -> None:
    _, made = await Parent.get_or_create(name="one", defaults={"region": "r"})
    async with transaction():
        _, again = await Parent.get_or_create(name="one", defaults={"region": "r"})
        await Parent.bulk_create([Parent(name=f"b{number}", region="r") for number in range(3)])

    assert (made, again) == (True, False)
    assert await Parent.all().count() == 4
