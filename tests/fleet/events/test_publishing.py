"""Publishing to a product from the API."""

from typing import Any

import pytest

from tests.connected import a_product, entries
from tests.house import HouseTester

EVENT = "event { deviceId device { deviceId } name data cursor }"


async def test_an_event_is_stored_and_audited_without_its_data(tester: HouseTester) -> None:
    owner = await tester.owner()
    await a_product(tester)

    payload = await tester.do("publishEvent", EVENT, owner, productId=1094, name="door/Open-1_x", data="x" * 1024)

    event = payload["event"]
    assert payload["errors"] == []
    assert (event["deviceId"], event["device"], event["name"], event["data"]) == ("0" * 24, None, "door/Open-1_x", "x" * 1024)
    assert await entries() == [("event", "door/Open-1_x", None, "x" * 1024)]
    assert (await tester.audited())[-1] == "event.published"


@pytest.mark.parametrize(("wrong", "path"), [
    ({"name": ""}, "name"), ({"name": "a b"}, "name"), ({"name": "x" * 65}, "name"), ({"name": "Particle/x"}, "name"),
    ({"name": "flotilla"}, "name"), ({"data": "ä" * 513}, "data"), ({"data": "\0"}, "data"),
])  # fmt: skip
async def test_what_may_not_be_published_is_refused_and_nothing_is_stored(tester: HouseTester, wrong: dict[str, Any], path: str) -> None:
    owner = await tester.owner()
    await a_product(tester)
    before = await tester.audited()

    payload = await tester.do("publishEvent", EVENT, owner, **{"productId": 1094, "name": "door", "data": "x"} | wrong)

    assert [(error["code"], error["path"]) for error in payload["errors"]] == [("INVALID_INPUT", ["input", path])]
    assert await entries() == []
    assert await tester.audited() == before


async def test_publishing_takes_a_developer_of_the_team(tester: HouseTester) -> None:
    owner, stranger = await tester.owner(), await tester.owner("eve", "Evil")
    support = await tester.member(owner, "sue", "SUPPORT")
    await a_product(tester)

    answers = [await tester.do("publishEvent", EVENT, token, productId=1094, name="door") for token in (stranger, support)]

    assert [answer["errors"][0]["code"] for answer in answers] == ["NOT_FOUND", "FORBIDDEN"]
    assert await entries() == []
