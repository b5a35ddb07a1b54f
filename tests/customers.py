"""What tests of customers begin with: a product that signs them in by a method, customers with tokens, and devices."""

from datetime import UTC, datetime
from typing import Any

from models.customer import Customer
from models.device import Device
from models.product import Product
from tests.house import PASSWORD, HouseTester

LAMP = 1000  # the number of the first product of a fresh house
IDS = [f"{number:024x}" for number in range(1, 60)]


def codes(payload: Any) -> list[str]:
    return [error["code"] for error in payload["errors"]]


async def lamp(tester: HouseTester, method: str = "SIMPLE", *, beta: bool = False) -> str:
    """The token of Acme's owner, whose product LAMP signs its customers in by `method`."""
    owner = await tester.owner()
    await answer(tester, owner, await tester.product(owner), method)
    if beta:
        await answer(tester, owner, LAMP, "YES", "private_beta")
    return owner


async def answer(tester: HouseTester, owner: str, number: int, value: str, key: str = "auth_method") -> None:
    given = [{"key": key, "answer": value}]
    assert codes(await tester.do("answerQuestions", "clientMutationId", owner, productId=number, answers=given)) == []


async def sign_up(tester: HouseTester, username: str, number: int = LAMP) -> str:
    """The token of a new customer."""
    payload = await tester.do("signUpCustomer", "token", productId=number, username=username, password=PASSWORD)
    assert codes(payload) == []
    return str(payload["token"])


async def imported(tester: HouseTester, owner: str, *usernames: str) -> list[str]:
    """The activation codes of new customers."""
    payload = await tester.do("importCustomers", "created { activationCode }", owner, productId=LAMP, usernames=list(usernames))
    assert codes(payload) == []
    return [each["activationCode"] for each in payload["created"]]


async def a_device(device_id: str = IDS[0], *, number: int = LAMP, **columns: Any) -> Device:
    """One that never connected."""
    return await Device.create(
        device_id=device_id, product=await Product.get(number=number), created_at=datetime.now(UTC), **columns
    )  # fmt: skip


async def owner_of(device_id: str = IDS[0]) -> str | None:
    row = await Device.get(device_id=device_id).select_related("owner")
    return row.owner.username if row.owner else None


async def activation_of(username: str) -> str | None:
    state = (await Customer.get(username=username)).activation_at(datetime.now(UTC))
    return None if state is None else str(state)
