"""What customers let apps do: consents, the codes and tokens that come of them, and their end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from auth.credentials import auth_method_of, issue, revoke
from auth.oauth_store import Allowed, Client, Found, Issued
from auth.tokens import Kind, digest, kind_of, mint
from auth.viewer import Viewer
from billing.access import require_active
from errors import NotFound
from fleet.auditing import record
from fleet.customers import linking
from models.account import ApiUser, Token
from models.customer import Customer
from models.oauth import OAuthClient, OAuthCode, OAuthConsent, OAuthRefreshToken
from models.product import AuthMethod, Product
from models.sql import execute, rows
from models.transaction import transaction
from settings import Settings

Spent = TypeVar("Spent", OAuthCode, OAuthRefreshToken)

KEPT = timedelta(days=1)  # spent and expired ones, so that one who uses them again is noticed
FAMILY = "consent__customer", "consent__client__product"


@dataclass(frozen=True, slots=True)
class Consents:
    """auth.oauth_store.Store in the database. Whoever issues in a family, or ends it, holds its row: of two, one is first."""

    settings: Settings

    async def client(self, client_id: str) -> Client | None:
        row = await OAuthClient.filter(client_id=client_id).select_related("product__organization", "api_user").first()
        return Client(row, is_open=await auth_method_of(row.product.id) is AuthMethod.OAUTH) if row else None

    async def consent(self, allowed: Allowed, by: Viewer) -> None:
        now, client, scopes = datetime.now(UTC), allowed.client, list(allowed.scopes)
        async with transaction():
            if by.customer is None or not await Customer.filter(id=by.customer.id).select_for_update(no_key=True).first():
                raise NotFound("This account is gone.")
            consent = await OAuthConsent.create(client=client, customer=by.customer, scopes=scopes, created_at=now)
            ends = now + timedelta(seconds=self.settings.oauth_code_ttl_s)
            await OAuthCode.create(
                digest=allowed.code_digest,
                consent=consent,
                redirect_uri=allowed.redirect_uri,
                challenge=allowed.challenge,
                expires_at=ends,
            )
            what = linking.subject(client.client_id)
            await record(by, "oauth_consent.given", what, organization_id=client.product.organization_id, scopes=scopes)

    async def code(self, text: str, client: OAuthClient) -> OAuthCode | None:
        mine = OAuthCode.filter(digest=digest(text), consent__client_id=client.id)
        return await self._unspent(await mine.select_related(*FAMILY).first())

    async def redeem(self, code: OAuthCode) -> Issued | None:
        return await self._spend(code, code.consent.scopes)

    async def refresh_token(self, text: str, client: OAuthClient) -> OAuthRefreshToken | None:
        mine = OAuthRefreshToken.filter(digest=digest(text), consent__client_id=client.id)
        return await self._unspent(await mine.select_related(*FAMILY).first())

    async def rotate(self, refresh_token: OAuthRefreshToken, scopes: Sequence[str]) -> Issued | None:
        return await self._spend(refresh_token, scopes)

    async def issue_own(self, client: OAuthClient, scopes: Sequence[str]) -> Issued:
        machine: ApiUser | None = client.api_user
        assert machine is not None, "the grant is refused to a client without one"
        now, seconds = datetime.now(UTC), self.settings.oauth_access_token_ttl_s
        ends, method = now + timedelta(seconds=seconds), AuthMethod.OAUTH
        minted, _ = await issue(Kind.API_USER, owner=machine, now=now, scopes=scopes, expires_at=ends, auth_method=method)
        return Issued(minted.text, seconds)

    async def find(self, text: str) -> Found | None:
        if kind_of(text) is Kind.REFRESH_TOKEN:
            refreshing = await OAuthRefreshToken.filter(digest=digest(text)).select_related(*FAMILY).first()
            return _refreshing(refreshing) if refreshing else None
        token = await Token.filter(digest=digest(text), auth_method=AuthMethod.OAUTH).select_related("api_user", *FAMILY).first()
        if token is None:
            return None
        family: OAuthConsent | None = token.consent
        if family is not None:
            return _access(token, family.client, family)
        client = await OAuthClient.filter(api_user_id=token.api_user_id).first()  # type: ignore[attr-defined]  # a Tortoise column
        return _access(token, client, None) if client else None

    async def revoke(self, found: Found) -> None:
        if found.is_refresh:
            await self._end(await OAuthConsent.get(id=found.consent_id).select_related("client__product"), "REVOKED")
        else:
            await revoke(now=datetime.now(UTC), id=found.key)

    async def _unspent(self, row: Spent | None) -> Spent | None:
        """A code or refresh token that is good; one that was good and is shown again ends its family."""
        if row is not None and row.used_at is not None:
            await self._end(row.consent, "USED_AGAIN")
            return None
        is_good = row is not None and row.consent.revoked_at is None and row.expires_at > datetime.now(UTC)
        return row if is_good else None

    async def _spend(self, row: OAuthCode | OAuthRefreshToken, scopes: Sequence[str]) -> Issued | None:
        """New tokens in place of this one; None when somebody was faster, which ends the family that they are in."""
        now = datetime.now(UTC)
        async with transaction():
            family = await OAuthConsent.filter(id=row.consent.id, revoked_at=None).select_for_update(no_key=True).first()
            if family and await type(row).filter(digest=row.digest, used_at=None).update(used_at=now):
                return await self._issue(row.consent, scopes, now)
        await self._end(row.consent, "USED_AGAIN")
        return None

    async def _issue(self, consent: OAuthConsent, scopes: Sequence[str], now: datetime) -> Issued:
        seconds, refreshing = self.settings.oauth_access_token_ttl_s, mint(Kind.REFRESH_TOKEN)
        access, _ = await issue(
            Kind.CUSTOMER,
            owner=consent.customer,
            now=now,
            scopes=scopes,
            expires_at=now + timedelta(seconds=seconds),
            auth_method=AuthMethod.OAUTH,
            consent=consent,
        )
        ends = now + timedelta(seconds=self.settings.oauth_refresh_token_ttl_s)
        await OAuthRefreshToken.create(digest=refreshing.hash, consent=consent, created_at=now, expires_at=ends)
        return Issued(access.text, seconds, refreshing.text)

    async def _end(self, consent: OAuthConsent, reason: str) -> None:
        """End a family: its codes and refresh tokens by this row, its access tokens one by one."""
        now = datetime.now(UTC)
        async with transaction():
            if await OAuthConsent.filter(id=consent.id, revoked_at=None).update(revoked_at=now):
                await revoke(now=now, consent_id=consent.id)
                by, whose = Viewer.house("oauth"), consent.client.product.organization_id
                await record(by, "oauth_consent.ended", linking.subject(consent.client.client_id), organization_id=whose, reason=reason)


@dataclass(frozen=True, slots=True)
class Consent:
    """What a customer lets an app do now, by all their log-ins to it together; `given_at` is the last of them."""

    client: OAuthClient
    scopes: list[str]
    given_at: datetime


async def consents_of(customer_ids: Sequence[int]) -> dict[int, list[Consent]]:
    """By customer, apps by their names."""
    living = OAuthConsent.filter(customer_id__in=list(customer_ids), revoked_at=None).order_by("client__name", "client_id", "created_at")
    found: dict[int, dict[int, Consent]] = {}
    for row in await living.select_related("client__api_user"):
        of_customer = found.setdefault(row.customer_id, {})  # type: ignore[attr-defined]  # a Tortoise column
        before = of_customer.get(row.client.id)
        scopes = [*(before.scopes if before else ()), *row.scopes]
        of_customer[row.client.id] = Consent(row.client, list(dict.fromkeys(scopes)), row.created_at)
    return {customer_id: list(of_customer.values()) for customer_id, of_customer in found.items()}


async def take_back(customer: Customer, client_id: str, *, by: Viewer) -> None:
    """End what the customer lets an app do, by all log-ins: its codes and tokens are good for nothing any more, its sockets close.

    By the customer on our own page, or the team for them; the product and its organization are at hand. Raises NotFound.
    """
    product: Product = customer.product
    if by.customer is None:
        by.must("customer.write", product.organization.id, product.id)
        require_active(product.organization)
    now = datetime.now(UTC)
    async with transaction():
        ended = await rows(_TAKE_BACK, [now, customer.id, client_id])
        if not ended:
            raise NotFound("The customer lets no such app do anything.", path=("clientId",))
        await revoke(now=now, consent_id__in=[row["id"] for row in ended])
        what = linking.subject(client_id)
        await record(by, "oauth_consent.taken_back", what, organization_id=product.organization.id, customer=customer.username)


_TAKE_BACK = """
    UPDATE oauth_consent SET revoked_at = $1 WHERE customer_id = $2 AND revoked_at IS NULL
       AND client_id = (SELECT id FROM oauth_client WHERE oauth_client.client_id = $3) RETURNING id"""


async def end_consents(customer: Customer, *, now: datetime) -> None:
    """End every app's access to the account, inside the caller's transaction: its password was changed."""
    await OAuthConsent.filter(customer_id=customer.id, revoked_at=None).update(revoked_at=now)
    await revoke(now=now, customer_id=customer.id, consent_id__isnull=False)


async def forget_old(now: datetime) -> None:
    """Delete what has been over for a day, tokens of customers and of apps, and consents of which nothing is left."""
    long_over = now - KEPT
    async with transaction():
        await execute(_REMEMBER_USE, [long_over])
        await execute(
            "DELETE FROM token WHERE (customer_id IS NOT NULL OR auth_method = $1) AND expires_at < $2", [AuthMethod.OAUTH, long_over]
        )
    for table in ("oauth_code", "oauth_refresh_token"):
        await execute(f"DELETE FROM {table} WHERE expires_at < $1", [long_over])
    left = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.consent_id = oauth_consent.id)"
        for table in ("oauth_code", "oauth_refresh_token", "token")
    )
    await execute(f"DELETE FROM oauth_consent WHERE created_at < $1 AND {left}", [long_over])


_REMEMBER_USE = """
    UPDATE customer SET last_seen_at = used.at
      FROM (SELECT customer_id, MAX(last_used_at) AS at FROM token
             WHERE customer_id IS NOT NULL AND last_used_at IS NOT NULL AND expires_at < $1 GROUP BY customer_id) AS used
     WHERE customer.id = used.customer_id AND (customer.last_seen_at IS NULL OR customer.last_seen_at < used.at)"""


def _refreshing(row: OAuthRefreshToken) -> Found:
    consent: OAuthConsent = row.consent
    return Found(
        client_id=consent.client.client_id,
        is_refresh=True,
        key=row.digest,
        consent_id=consent.id,
        customer=consent.customer,
        scopes=tuple(consent.scopes),
        issued_at=row.created_at,
        expires_at=row.expires_at,
        is_over=row.used_at is not None or consent.revoked_at is not None,
    )


def _access(token: Token, client: OAuthClient, consent: OAuthConsent | None) -> Found:
    assert token.expires_at is not None, "every token of an app ends"
    return Found(
        client_id=client.client_id,
        is_refresh=False,
        key=token.id,
        consent_id=consent.id if consent else None,
        customer=consent.customer if consent else None,
        scopes=tuple(token.scopes),
        issued_at=token.created_at,
        expires_at=token.expires_at,
        is_over=token.revoked_at is not None,
    )
