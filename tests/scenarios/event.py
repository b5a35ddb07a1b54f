"""Scenarios of the log."""

from tests.scenarios.scenario import Input, mutation, streaming
from tests.scenarios.stage import LAMP, Stage


@mutation("publishEvent")
async def publish_event(stage: Stage) -> Input:
    return {"productId": LAMP, "name": "noon", "data": "12:00"}


@streaming("events", "subscription ($number: Int!) { events(productId: $number) { cursor } }")
async def events(stage: Stage) -> Input:
    return {"number": LAMP}
