"""Scenarios of customers, and of what staff does with their devices."""

from models.customer import Customer
from models.global_ids import global_id
from models.product import Product
from tests.scenarios.device import a_device
from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import LAMP, PASSWORD, Stage


async def _a_customer(stage: Stage) -> Customer:
    """Not the one of the cast: a customer who is deleted loses the token."""
    await stage.owner("createCustomer", "clientMutationId", productId=LAMP, username="lee")
    return await Customer.get(username="lee", product=await Product.get(number=LAMP))


@mutation("signUpCustomer", by=None)
async def sign_up_customer(stage: Stage) -> Input:
    return {"productId": LAMP, "username": "lee", "password": PASSWORD}


@mutation("logInCustomer", by=None)
async def log_in_customer(stage: Stage) -> Input:
    await stage.owner("createCustomer", "clientMutationId", productId=LAMP, username="lee", password=PASSWORD)
    return {"productId": LAMP, "username": "lee", "password": PASSWORD}


@mutation("createCustomer")
async def create_customer(stage: Stage) -> Input:
    return {"productId": LAMP, "username": "lee"}


@mutation("deleteCustomer")
async def delete_customer(stage: Stage) -> Input:
    return {"id": global_id("Customer", (await _a_customer(stage)).id)}


@mutation("assignDevice")
async def assign_device(stage: Stage) -> Input:
    return {"deviceId": await a_device(), "customerId": global_id("Customer", (await _a_customer(stage)).id)}


@mutation("unclaimDevice")
async def unclaim_device(stage: Stage) -> Input:
    return {"deviceId": await a_device(owner=await _a_customer(stage))}
