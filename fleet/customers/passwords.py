"""What a customer does by mail, where passwords are kept here: proving an address, and setting a new password."""

from datetime import UTC, datetime, timedelta

from auth import throttle
from auth.credentials import revoke
from auth.password_strength import require_strong
from auth.passwords import hash_password
from auth.spelling import same_name_key
from auth.tokens import Kind, digest, mint, well_formed
from auth.viewer import Viewer
from errors import WrongCredentials
from fleet import jobs
from fleet.auditing import record
from fleet.customers import consenting, letters
from fleet.customers.accounts import as_customer, must_sign_in_by, prove_account, subject
from fleet.house import House
from models.customer import Customer, MailedProof
from models.organization import Organization
from models.product import AuthMethod, Product
from models.transaction import transaction

KEPT_HERE = (AuthMethod.SIMPLE, AuthMethod.OAUTH)  # methods by which passwords are kept here
PASSWORD, EMAIL = "password", "email"  # purposes of a mailed proof


async def ask_to_prove_email(customer: Customer, *, house: House, now: datetime) -> None:
    """Promise the letter that proves the customer's address, if they have one; inside the transaction of the sign-up."""
    if customer.email is None:
        return
    minted, expires_at = mint(Kind.EMAIL_PROOF), now + timedelta(seconds=house.settings.email_proof_ttl_s)
    await MailedProof.create(
        digest=minted.hash, customer=customer, purpose=EMAIL, email=customer.email, created_at=now, expires_at=expires_at
    )
    product: Product = customer.product
    letter = letters.email_proof(
        customer.email, token=minted.text, expires_at=expires_at, customer=customer, product=product
    )  # fmt: skip
    await jobs.mail(letter, house.sealer)


async def verify_email(token: str, *, house: House, by: Viewer) -> None:
    """Note that the customer reads the mail of their address, by the token mailed there. Raises WrongCredentials."""
    now = datetime.now(UTC)
    proof = await _open_proof(token, EMAIL, ("verificationToken",), house=house, by=by, now=now)
    customer: Customer = proof.customer
    async with transaction():
        await _spend(proof, ("verificationToken",), now)
        await Customer.filter(id=customer.id, email=proof.email).update(email_verified_at=now)
        await _record(customer, "customer.email_verified", as_customer(customer, by))


async def request_verification(product: Product, username: str, *, house: House, by: Viewer) -> None:
    """Mail the proof of the address once more, while it is not proved; the answer is the same if it is, or if there is no such customer.

    Raises WrongAuthMethod.
    """
    now = datetime.now(UTC)
    found = await _with_address(product, username, house=house, by=by, now=now)
    if found is None or found[0].email_verified_at is not None or not await _may_be_mailed(found[0], house, now):
        return
    customer, _ = found
    async with transaction():
        await ask_to_prove_email(customer, house=house, now=now)
        await _record(customer, "customer.verification_requested", by)


async def request_reset(product: Product, username: str, *, house: House, by: Viewer) -> None:
    """Mail a reset token, if there is such a customer with an address; the answer is the same if not, or if many were sent.

    Raises WrongAuthMethod.
    """
    now = datetime.now(UTC)
    found = await _with_address(product, username, house=house, by=by, now=now)
    if found is None or not await _may_be_mailed(found[0], house, now):
        return
    customer, address = found
    minted, expires_at = mint(Kind.PASSWORD_RESET), now + timedelta(seconds=house.settings.password_reset_ttl_s)
    letter = letters.password_reset(address, token=minted.text, expires_at=expires_at, customer=customer, product=product)
    async with transaction():
        await MailedProof.create(
            digest=minted.hash, customer=customer, purpose=PASSWORD, email=address, created_at=now, expires_at=expires_at
        )
        await _record(customer, "customer.reset_requested", by)
        await jobs.mail(letter, house.sealer)


async def reset_password(token: str, new: str, *, house: House, by: Viewer) -> None:
    """Set a password by a mailed token, which is spent and proves the address as well; every token of the customer ends.

    Raises WrongCredentials, PasswordTooWeak, WrongAuthMethod.
    """
    now, path = datetime.now(UTC), ("resetToken",)
    proof = await _open_proof(token, PASSWORD, path, house=house, by=by, now=now)
    customer: Customer = proof.customer
    await must_sign_in_by(customer.product, *KEPT_HERE)
    require_strong(new, email=customer.username, path=("new",))
    stored = await hash_password(new)
    async with transaction():
        await _spend(proof, path, now)
        await Customer.filter(id=customer.id).update(password_hash=stored)
        await Customer.filter(id=customer.id, email=proof.email).update(email_verified_at=now)
        await _changed(customer, proof.email, house=house, by=as_customer(customer, by), now=now)


async def change_password(current: str, new: str, *, house: House, by: Viewer) -> None:
    """Set another password, by who is logged in and knows the one there is; this session stays, all others and every app's access end.

    Raises WrongCredentials, PasswordTooWeak, Forbidden for a token that is no log-in of the customer's own.
    """
    own, now = by.must_be_customer(), datetime.now(UTC)
    product = await Product.get(id=own.product_id).select_related("organization")  # type: ignore[attr-defined]  # a Tortoise column
    try:
        customer = await prove_account(product, own.username, current, house=house, by=by)
    except WrongCredentials:
        raise WrongCredentials("This is not your password.", path=("current",)) from None
    require_strong(new, email=customer.username, path=("new",))
    stored = await hash_password(new)
    async with transaction():
        if not await Customer.filter(id=customer.id, password_hash=customer.password_hash).update(password_hash=stored):
            raise WrongCredentials("The password was changed just now.", path=("current",))
        await _changed(customer, customer.email, house=house, by=by, now=now)


async def _changed(customer: Customer, mail_to: str | None, *, house: House, by: Viewer, now: datetime) -> None:
    """End whatever was opened by the password before, but the session that asks; say so."""
    await MailedProof.filter(customer_id=customer.id, purpose=PASSWORD, used_at=None).update(used_at=now)
    ended = await revoke(now=now, except_token_id=by.token.id if by.token is not None else None, customer_id=customer.id)
    await consenting.end_consents(customer, now=now)
    await _record(customer, "customer.password_changed", by, sessions_ended=ended)
    if mail_to is not None:
        letter = letters.password_changed(mail_to, changed_at=now, customer=customer, product=customer.product)
        await jobs.mail(letter, house.sealer)


async def _with_address(product: Product, username: str, *, house: House, by: Viewer, now: datetime) -> tuple[Customer, str] | None:
    """The product's customer of this name and their address, if there is one; whoever asks often is slowed.

    Raises WrongAuthMethod, RateLimited.
    """
    await must_sign_in_by(product, *KEPT_HERE)
    await house.throttle.take(throttle.resets_from(by.address or ""), now=now)
    customer = await Customer.filter(product_id=product.id, username_key=same_name_key(username.strip())).first()
    if customer is None or customer.email is None:
        return None
    customer.product = product
    return customer, customer.email


async def _may_be_mailed(customer: Customer, house: House, now: datetime) -> bool:
    return await house.throttle.takes(throttle.resets_for(f"customer/{customer.id}"), now=now)


async def _open_proof(token: str, purpose: str, path: tuple[str, ...], *, house: House, by: Viewer, now: datetime) -> MailedProof:
    """The proof behind a token, customer, product and organization at hand; whoever guesses is slowed."""
    guesses = throttle.guesses_from(by.address or "")
    await house.throttle.take(guesses, now=now)
    spelled = digest(token) if well_formed(token) else ""
    living = MailedProof.filter(digest=spelled, purpose=purpose, used_at=None, expires_at__gt=now)
    proof = await living.select_related("customer__product__organization").first()
    if proof is None:
        raise WrongCredentials("This code is used up, expired or incomplete: ask for a new mail.", path=path)
    await house.throttle.give_back(guesses, now=now)
    return proof


async def _spend(proof: MailedProof, path: tuple[str, ...], now: datetime) -> None:
    if not await MailedProof.filter(digest=proof.digest, used_at=None).update(used_at=now):
        raise WrongCredentials("This code was used just now.", path=path)


async def _record(customer: Customer, action: str, by: Viewer, **detail: int) -> None:
    product: Product = customer.product
    organization: Organization = product.organization
    await record(by, action, subject(customer, product), organization_id=organization.id, **detail)
