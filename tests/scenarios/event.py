"""Scenarios of the log."""

from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import LAMP, Stage


@mutation("publishEvent")
async def publish_event(stage: Stage) -> Input:
    return {"productId": LAMP, "name": "noon", "data": "12:00"}
