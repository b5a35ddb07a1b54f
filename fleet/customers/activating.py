"""Activation codes of a private beta: giving them out, and spending one without anybody guessing it.

Wrong tries are counted on the customer's row, so that they outlive a restart and are the same to every server process.
Source: guide, "Private beta"; security requirements, 23.
"""

import hmac
import secrets
from datetime import UTC, datetime

from auth.viewer import Viewer
from billing.access import require_active
from errors import ActivationCodeRequired, ActivationCodeUsed, ActivationCodeWrong, CallerError, InvalidInput, NotFound
from fleet.auditing import record
from fleet.customers.accounts import subject
from fleet.products.configuring import answer_of
from fleet.products.defining import lock
from fleet.products.questionnaire import PRIVATE_BETA, YES
from models.customer import ACTIVATION_PAUSE, WRONG_IN_A_ROW, WRONG_IN_ALL, ActivationState, Customer
from models.organization import Organization
from models.product import Product
from models.transaction import transaction

ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # without I, L, O, 0 and 1, which people take for each other
LENGTH = 4
MOST = len(ALPHABET) ** LENGTH // 4  # codes of one product: with more, every fourth guess would be somebody's


async def is_private_beta(product: Product) -> bool:
    """Whether claiming takes an activation code."""
    return await answer_of(product, PRIVATE_BETA) == YES


async def reissue_activation_code(customer: Customer, *, by: Viewer) -> str:
    """A new code for a customer; the old one, its wrong tries and whatever it was spent on are forgotten."""
    product: Product = customer.product
    organization: Organization = product.organization
    by.must("customer.write", organization.id, product.id)
    require_active(organization)
    async with transaction():
        await lock(product)
        (code,) = await fresh_codes(product, 1)
        changed = await Customer.filter(id=customer.id).update(
            activation_code=code,
            activation_used_at=None,
            activation_wrong_in_row=0,
            activation_wrong_in_all=0,
            activation_paused_until=None,
        )
        if not changed:
            raise NotFound("This customer is gone already.", path=("customerId",))
        await record(by, "customer.activation_reissued", subject(customer, product), organization_id=organization.id)
    await customer.refresh_from_db()
    customer.product = product
    return code


async def fresh_codes(product: Product, count: int) -> list[str]:
    """Codes that nobody in the product has; the caller holds the product's row, so that nobody else gives them out."""
    given = await Customer.filter(product_id=product.id, activation_code__not_isnull=True).only("id", "activation_code")
    taken = {customer.activation_code for customer in given}
    if len(taken) + count > MOST:
        raise InvalidInput(f"A product has at most {MOST} activation codes.")
    fresh: set[str] = set()
    while len(fresh) < count:
        code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        if code not in taken:
            fresh.add(code)
    return list(fresh)


async def try_code(customer: Customer, code: str | None, *, spend: bool, now: datetime) -> CallerError | None:
    """Whether the held customer may claim with this code, and with `spend` use it up; what to refuse the act with, if not.

    A refusal is returned and not raised: a wrong try stays counted, so the caller commits before raising it.
    """
    if code is None:
        return ActivationCodeRequired("The product is in a private beta: give your activation code.", path=("activationCode",))
    state = customer.activation_at(now)
    if state is ActivationState.USED:
        return ActivationCodeUsed("Your activation code was spent: the product's makers can give you another.", path=("activationCode",))
    if _is_locked(customer, now):
        return _locked(customer)
    if not _is_theirs(customer, code):
        return await _count_wrong(customer, now)
    changes = {"activation_used_at": now} if spend else {"activation_wrong_in_row": 0}
    await Customer.filter(id=customer.id).update(**changes)
    return None


def _is_theirs(customer: Customer, code: str) -> bool:
    own = customer.activation_code
    return own is not None and hmac.compare_digest(code.strip().upper().encode(errors="replace"), own.encode())


def _is_locked(customer: Customer, now: datetime) -> bool:
    """Of customers without a code as well: the answer must not tell that they have none."""
    paused = customer.activation_paused_until is not None and now < customer.activation_paused_until
    return paused or customer.activation_wrong_in_all >= WRONG_IN_ALL


async def _count_wrong(customer: Customer, now: datetime) -> ActivationCodeWrong:
    in_row, in_all = customer.activation_wrong_in_row + 1, customer.activation_wrong_in_all + 1
    pauses = in_row >= WRONG_IN_A_ROW
    customer.activation_wrong_in_row, customer.activation_wrong_in_all = 0 if pauses else in_row, in_all
    customer.activation_paused_until = now + ACTIVATION_PAUSE if pauses else customer.activation_paused_until
    columns = ["activation_wrong_in_row", "activation_wrong_in_all", "activation_paused_until"]
    await customer.save(update_fields=columns)
    if _is_locked(customer, now):
        return _locked(customer)
    return ActivationCodeWrong("This is not your activation code.", path=("activationCode",))


def _locked(customer: Customer) -> ActivationCodeWrong:
    if customer.activation_wrong_in_all >= WRONG_IN_ALL:
        sentence = "There were too many wrong tries: ask the product's makers for a new activation code."
    else:
        sentence = f"There were too many wrong tries: try again at {_until(customer):%H:%M} UTC."
    return ActivationCodeWrong(sentence, reason=ActivationState.LOCKED, path=("activationCode",))


def _until(customer: Customer) -> datetime:
    assert customer.activation_paused_until is not None
    return customer.activation_paused_until.astimezone(UTC)
