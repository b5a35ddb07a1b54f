"""People's accounts: signing up, logging in and out, and passwords."""

from datetime import UTC, datetime, timedelta

from tortoise.exceptions import IntegrityError

from auth import throttle
from auth.credentials import issue, revoke
from auth.password_strength import require_strong
from auth.passwords import hash_password, verify_nobody, verify_password
from auth.spelling import require_email, require_text, same_name_key
from auth.tokens import Kind, Minted, digest, mint, well_formed
from auth.viewer import Viewer, ViewerKind
from errors import AlreadyExists, WrongCredentials
from fleet import jobs
from fleet.auditing import record
from fleet.house import House
from fleet.team import letters
from models.account import PasswordReset, Token, User
from models.transaction import transaction

WRONG = "The address or the password is wrong."


async def sign_up(email: str, password: str, name: str, *, house: House, by: Viewer) -> tuple[Token, str]:
    """Open an account and log it in: the session, its user at hand, and its token's text.

    Raises AlreadyExists for a taken address (that this tells is why sign-ups are counted), PasswordTooWeak, InvalidInput.
    """
    address, shown_name, now = require_email(email), require_text(name, path=("name",)), datetime.now(UTC)
    require_strong(password, email=address, name=shown_name)
    await house.throttle.take(throttle.sign_ups_from(by.address or ""), now=now)
    stored = await hash_password(password)
    try:
        async with transaction():
            user = await User.create(email=address, email_key=same_name_key(address), name=shown_name, password_hash=stored, created_at=now)
            minted, session = await _session(user, house, now)
            await record(_as(user, by), "account.signed_up", f"user:{address}", organization_id=None)
    except IntegrityError:
        raise AlreadyExists("This address has an account: log in, or reset its password.", path=("email",)) from None
    return session, minted.text


async def log_in(email: str, password: str, *, house: House, by: Viewer) -> tuple[Token, str]:
    """A new session, its user at hand, and its token's text.

    Raises WrongCredentials alike, and after the same time, for a wrong password and an unknown address.
    """
    key, now = same_name_key(email.strip()), datetime.now(UTC)
    guesses = (throttle.guesses_at(f"user/{key}"), throttle.guesses_from(by.address or ""))
    await house.throttle.take(*guesses, now=now)
    user = await User.filter(email_key=key).first()
    right = await (verify_password(password, user.password_hash) if user else verify_nobody(password))
    if user is None or not right:
        raise WrongCredentials(WRONG)
    await house.throttle.give_back(*guesses, now=now)
    async with transaction():
        minted, session = await _session(user, house, now)
        await record(_as(user, by), "account.logged_in", f"user:{user.email}", organization_id=None)
    return session, minted.text


async def log_out(*, by: Viewer) -> None:
    """End the token that asks, whatever its scopes; nothing happens to the account's others."""
    user = by.user or by.must_be_user()
    async with transaction():
        if by.token is not None and await revoke(now=datetime.now(UTC), id=by.token.id):
            await record(by, "account.logged_out", f"user:{user.email}", organization_id=None)


async def change_password(current: str, new: str, *, house: House, by: Viewer) -> None:
    """A new password; every other session and token of the account ends. Raises WrongCredentials, PasswordTooWeak, Forbidden."""
    user, now = by.must_be_user(), datetime.now(UTC)
    guesses = throttle.guesses_at(f"user/{user.email_key}")
    await house.throttle.take(guesses, now=now)
    if not await verify_password(current, user.password_hash):
        raise WrongCredentials("The current password is wrong.", path=("current",))
    await house.throttle.give_back(guesses, now=now)
    require_strong(new, email=user.email, name=user.name, path=("new",))
    await _set_password(user, new, house=house, by=by, keep=by.token.id if by.token else None)


async def request_password_reset(email: str, *, house: House, by: Viewer) -> None:
    """Mail a reset token, if the address has an account; the answer is the same if it has none, or was sent many."""
    key, now = same_name_key(email.strip()), datetime.now(UTC)
    await house.throttle.take(throttle.resets_from(by.address or ""), now=now)
    user = await User.filter(email_key=key).first()
    if user is None or not await house.throttle.takes(throttle.resets_for(key), now=now):
        return
    minted, expires_at = mint(Kind.PASSWORD_RESET), now + timedelta(seconds=house.settings.password_reset_ttl_s)
    letter = letters.password_reset(user.email, token=minted.text, expires_at=expires_at, public_url=house.settings.public_url)
    async with transaction():
        await PasswordReset.create(digest=minted.hash, user=user, created_at=now, expires_at=expires_at)
        await record(by, "account.reset_requested", f"user:{user.email}", organization_id=None)
        await jobs.mail(letter, house.sealer)


async def reset_password(reset_token: str, new: str, *, house: House, by: Viewer) -> None:
    """Set a password by a mailed token, which is spent; every session ends. Raises WrongCredentials, PasswordTooWeak."""
    now = datetime.now(UTC)
    await house.throttle.take(throttle.guesses_from(by.address or ""), now=now)
    reset = await _open_reset(reset_token, now)
    await house.throttle.give_back(throttle.guesses_from(by.address or ""), now=now)
    require_strong(new, email=reset.user.email, name=reset.user.name, path=("new",))
    await _set_password(reset.user, new, house=house, by=_as(reset.user, by), keep=None, reset=reset)


async def _open_reset(reset_token: str, now: datetime) -> PasswordReset:
    spelled = digest(reset_token) if well_formed(reset_token) else ""
    reset = await PasswordReset.filter(digest=spelled, used_at=None, expires_at__gt=now).select_related("user").first()
    if reset is None:
        raise WrongCredentials("This reset token is used up, expired or incomplete: ask for a new mail.", path=("resetToken",))
    return reset


async def _set_password(user: User, new: str, *, house: House, by: Viewer, keep: int | None, reset: PasswordReset | None = None) -> None:
    stored, now = await hash_password(new), datetime.now(UTC)
    letter = letters.password_changed(user.email, changed_at=now, public_url=house.settings.public_url)
    async with transaction():
        if reset is not None and not await PasswordReset.filter(digest=reset.digest, used_at=None).update(used_at=now):
            raise WrongCredentials("This reset token was used just now.", path=("resetToken",))
        await User.filter(id=user.id).update(password_hash=stored)
        await PasswordReset.filter(user_id=user.id, used_at=None).update(used_at=now)
        ended = await revoke(now=now, except_token_id=keep, user_id=user.id)
        await record(by, "account.password_changed", f"user:{user.email}", organization_id=None, sessions_ended=ended)
        await jobs.mail(letter, house.sealer)


async def _session(user: User, house: House, now: datetime) -> tuple[Minted, Token]:
    return await issue(Kind.SESSION, owner=user, now=now, expires_at=now + timedelta(seconds=house.settings.session_ttl_s))


def _as(user: User, by: Viewer) -> Viewer:
    """Nobody who has just shown that they are `user`, for the audit."""
    return Viewer(ViewerKind.USER, user=user, address=by.address)
