"""A customer's account of one product, by whichever method they log in: opening it, proving it, and the tokens made for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from auth import throttle
from auth.credentials import auth_method_of, issue
from auth.password_strength import require_strong
from auth.passwords import hash_password, verify_nobody, verify_password
from auth.spelling import require_email, require_text, same_name_key
from auth.tokens import Kind
from auth.viewer import Viewer, ViewerKind
from errors import AlreadyExists, InvalidInput, NotFound, WrongAuthMethod, WrongCredentials
from fleet.auditing import record
from fleet.house import House
from models.account import Token
from models.customer import Customer
from models.organization import Organization
from models.product import AuthMethod, Product
from models.sql import rows

NAME_MAX = 254  # characters of a user name or an external id
WRONG = "The user name or the password is wrong."


@dataclass(frozen=True, slots=True)
class Opening:
    """A checked user name and what goes with it, ready to be stored; the password is a hash already."""

    username: str
    username_key: str
    email: str | None
    password_hash: str


async def must_sign_in_by(product: Product, *methods: AuthMethod) -> None:
    """Refuse unless the product's customers log in by one of these methods. Raises WrongAuthMethod."""
    method = await auth_method_of(product.id)
    if method not in methods:
        chosen = f"signs its customers in by {method}" if method else "has not said yet how its customers log in"
        raise WrongAuthMethod(f"This is for {' or '.join(methods)}; the product {chosen} (question auth_method).", reason=method)


async def prepare(username: str, password: str, *, email: str | None) -> Opening:
    """Check a new account's user name, address and password, and hash it. Raises InvalidInput, PasswordTooWeak."""
    name = require_text(username, path=("username",), max_length=NAME_MAX)
    address = require_email(email) if email is not None else address_in(name)
    require_strong(password, email=name)
    return Opening(name, name_key(name), address, await hash_password(password))


async def open_account(product: Product, opening: Opening, *, by: Viewer, now: datetime) -> Customer:
    """Store a new account, inside the caller's transaction, or complete the one an import has made for this user name.

    Raises AlreadyExists for any other of that name. One that the team has given devices to is completed by mail alone (a new
    password): whoever guesses its name would come into them.
    """
    found = await rows(
        "INSERT INTO customer (product_id, username, username_key, email, password_hash, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING id",
        [product.id, opening.username, opening.username_key, opening.email, opening.password_hash, now],
    ) or await rows(
        "UPDATE customer SET password_hash = $1, email = COALESCE(email, $2) WHERE product_id = $3 AND username_key = $4"
        " AND password_hash IS NULL AND NOT EXISTS (SELECT 1 FROM device WHERE device.owner_id = customer.id) RETURNING id",
        [opening.password_hash, opening.email, product.id, opening.username_key],
    )
    if not found:
        raise AlreadyExists("The product has an account of this name: log in, or ask for a new password by mail.", path=("username",))
    customer = await Customer.get(id=found[0]["id"])
    customer.product = product
    await record(as_customer(customer, by), "customer.signed_up", subject(customer, product), organization_id=_organization_id(product))
    return customer


async def prove_account(product: Product, username: str, password: str, *, house: House, by: Viewer) -> Customer:
    """The customer with this user name and password, the product at hand; writes nothing.

    Raises WrongCredentials alike, and after the same time, for a wrong password and an unknown name; RateLimited for who guesses.
    """
    key, now = same_name_key(username.strip()), datetime.now(UTC)
    guesses = (throttle.guesses_at(f"customer/{product.number}/{key}"), throttle.guesses_from(by.address or ""))
    await house.throttle.take(*guesses, now=now)
    customer = await Customer.filter(product_id=product.id, username_key=key).first()
    stored = customer.password_hash if customer else None
    right = await (verify_password(password, stored) if stored else verify_nobody(password))
    if customer is None or not right:
        raise WrongCredentials(WRONG)
    await house.throttle.give_back(*guesses, now=now)
    customer.product = product
    return customer


async def open_session(customer: Customer, method: AuthMethod, *, house: House, now: datetime) -> tuple[Token, str]:
    """A token that may do whatever a customer may, inside the caller's transaction; its text comes second."""
    ends = now + timedelta(seconds=house.settings.session_ttl_s)
    return await token_for(customer, method, scopes=(), expires_at=ends, now=now)


async def token_for(
    customer: Customer, method: AuthMethod, *, scopes: Sequence[str], expires_at: datetime, now: datetime
) -> tuple[Token, str]:
    """A token of the customer's, good while the product keeps to `method`; inside the caller's transaction."""
    minted, token = await issue(Kind.CUSTOMER, owner=customer, now=now, scopes=scopes, expires_at=expires_at, auth_method=method)
    return token, minted.text


async def by_id(product: Product, customer_id: int) -> Customer | None:
    """The product's customer with this key, the product at hand, for a door that has seen proof of it."""
    customer = await Customer.filter(id=customer_id, product_id=product.id).first()
    if customer is not None:
        customer.product = product
    return customer


async def hold(customer: Customer) -> Customer:
    """The customer's row until the commit: whoever deletes it waits, or spends its codes. Held before any device's row.

    Raises NotFound when it was deleted.
    """
    held = await Customer.filter(id=customer.id).select_for_update(no_key=True).first()
    if held is None:
        raise NotFound("There is no such customer for you.", path=("customerId",))
    return held


def as_customer(customer: Customer, by: Viewer) -> Viewer:
    """Whoever has just shown that they are this customer, for the audit."""
    return Viewer(ViewerKind.CUSTOMER, customer=customer, address=by.address)


def subject(customer: Customer, product: Product) -> str:
    """How the audit names a customer: user names are unique within a product only."""
    return f"customer:{product.number}/{customer.username}"


def name_key(username: str) -> str:
    """What equality means for user names. Raises InvalidInput."""
    key = same_name_key(username)
    if len(key) > NAME_MAX:  # some single characters stand for many
        raise InvalidInput(f"This takes 1 to {NAME_MAX} characters.", path=("username",))
    return key


def address_in(username: str) -> str | None:
    """The user name, where it is an e-mail address: letters go there."""
    try:
        return require_email(username)
    except InvalidInput:
        return None


def _organization_id(product: Product) -> int:
    organization: Organization = product.organization
    return organization.id
