"""Functions of devices, called while things go wrong: none is called twice, and what was answered was done."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import httpx

from tests.clients import Client, Refused

CALL = (
    "mutation ($id: DeviceID!, $argument: String!) {"
    ' callFunction(input: {deviceId: $id, name: "led", argument: $argument}) { returnValue errors { code } } }'
)


class Calls:
    """`led` is what the devices do; each call has words of its own."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.answered: list[str] = []
        self.refused: Counter[str] = Counter()
        self._count = 0

    def led(self, argument: str) -> int:
        self.heard[argument] += 1
        return self.heard.total()

    async def call(self, client: Client, device_id: str) -> str | None:
        """The code of what went wrong, if anything did."""
        self._count += 1
        argument = f"{device_id} {self._count}"
        try:
            done = (await client.ask(CALL, id=device_id, argument=argument))["callFunction"]
        except (httpx.HTTPError, ValueError, Refused) as error:
            code = type(error).__name__
        else:
            if not done["errors"]:
                self.answered.append(argument)
                return None
            code = done["errors"][0]["code"]
        self.refused[code] += 1
        return code

    async def keep_calling(self, client: Client, device_ids: Sequence[str], until: asyncio.Event) -> None:
        async def one(device_id: str) -> None:
            while not until.is_set():
                await asyncio.gather(self.call(client, device_id), asyncio.sleep(0.1))

        await asyncio.gather(*map(one, device_ids))

    def judge(self) -> None:
        assert [argument for argument, times in self.heard.items() if times > 1] == [], "called twice"
        assert [argument for argument in self.answered if argument not in self.heard] == [], "answered, and never called"
        assert self.answered, "nothing was ever called"
