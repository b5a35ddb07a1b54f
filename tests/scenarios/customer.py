"""Scenarios of customers, and of what staff does with their devices."""

from auth.passwords import hash_password
from models.account import Token
from models.customer import Customer
from models.global_ids import global_id
from models.product import AUTH_METHOD, Answer, AuthMethod, Product
from tests.scenarios.device import a_device
from tests.scenarios.scenario import Input, mutation
from tests.scenarios.stage import CUSTOMER, LAMP, PASSWORD, Stage


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


@mutation("verifyCustomerEmail", by=None)
async def verify_customer_email(stage: Stage) -> Input:
    given = {"productId": LAMP, "username": "lee@example.com", "password": PASSWORD}
    await stage.tester.do("signUpCustomer", "clientMutationId", **given)
    return {"verificationToken": await _mailed(stage, "flv_")}


@mutation("requestCustomerEmailVerification", by=None)
@mutation("requestCustomerPasswordReset", by=None)
async def request_customer_password_reset(stage: Stage) -> Input:
    await stage.owner("createCustomer", "clientMutationId", productId=LAMP, username="lee@example.com")
    return {"productId": LAMP, "username": "lee@example.com"}


@mutation("resetCustomerPassword", by=None)
async def reset_customer_password(stage: Stage) -> Input:
    await stage.tester.do("requestCustomerPasswordReset", "clientMutationId", **await request_customer_password_reset(stage))
    return {"resetToken": await _mailed(stage, "flr_"), "new": "seven otters juggle at noon"}


@mutation("changeCustomerPassword", by=CUSTOMER)
async def change_customer_password(stage: Stage) -> Input:
    """The customers of the cast have logged in themselves."""
    await Customer.all().update(password_hash=await hash_password(PASSWORD))
    await Token.filter(customer_id__not_isnull=True).update(scopes=[])
    return {"current": PASSWORD, "new": "seven otters juggle at noon"}


async def _mailed(stage: Stage, prefix: str) -> str:
    letter = (await stage.tester.letters())[-1]
    return next(line for line in letter.text.splitlines() if line.startswith(prefix))


async def _signs_in_by(method: AuthMethod) -> None:
    """What LAMP's team has answered; the customer of the cast has logged in that way."""
    await Answer.filter(product__number=LAMP, key=AUTH_METHOD).update(answer=method)
    await Token.filter(customer__product__number=LAMP).update(auth_method=method)


@mutation("createClaimCode")
async def create_claim_code(stage: Stage) -> Input:
    return {"productId": LAMP, "customerId": global_id("Customer", (await _a_customer(stage)).id)}


@mutation("claimDevice")
async def claim_device(stage: Stage) -> Input:
    await _signs_in_by(AuthMethod.SELF_MANAGED)
    return {"deviceId": await a_device(), "customerId": global_id("Customer", (await _a_customer(stage)).id)}


@mutation("importCustomers")
async def import_customers(stage: Stage) -> Input:
    return {"productId": LAMP, "usernames": ["lee", "pat"]}


@mutation("reissueActivationCode")
async def reissue_activation_code(stage: Stage) -> Input:
    return {"customerId": global_id("Customer", (await _a_customer(stage)).id)}


@mutation("createCustomerToken")
async def create_customer_token(stage: Stage) -> Input:
    await _signs_in_by(AuthMethod.TWO_LEGGED)
    return {"customerId": global_id("Customer", (await _a_customer(stage)).id), "scopes": ["devices:read"]}


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
