"""Whose firmware an organization takes: its signing keys, and the check of a signature against them."""

from datetime import UTC, datetime

from tortoise.exceptions import IntegrityError

from auth.spelling import require_text
from auth.viewer import Viewer
from billing.access import require_active
from errors import AlreadyExists, BinaryInvalid, InvalidInput, NotFound
from firmware_formats.signing import Statement, is_signed_by
from fleet.auditing import record
from models.organization import Organization, SigningKey
from models.transaction import transaction
from public_keys import is_public_key

KEYS_MAX = 50  # of an organization: an upload may be checked against each


async def add_signing_key(organization: Organization, name: str, public_key: str, *, by: Viewer) -> SigningKey:
    """Trust a key of the team's; from now on every upload needs a signature by one of them.

    Only the public half ever comes here. Raises InvalidInput for what is no Ed25519 public key, AlreadyExists for one that is
    trusted already. Source: reliability, rule 2 of "OTA safety rules".
    """
    by.must("signing_key.write", organization.id)
    require_active(organization)
    label = require_text(name, path=("name",))
    if not is_public_key(public_key):
        raise InvalidInput("A publicKey is an Ed25519 key: 32 bytes as base64url without padding.", path=("publicKey",))
    if await SigningKey.filter(organization_id=organization.id).count() >= KEYS_MAX:
        raise InvalidInput(f"An organization has at most {KEYS_MAX} signing keys: remove one first.")
    try:
        async with transaction():
            key = await SigningKey.create(organization=organization, name=label, public_key=public_key, created_at=datetime.now(UTC))
            await _record(by, "signing_key.added", key, organization)
    except IntegrityError:
        raise AlreadyExists("The organization trusts this key already.", path=("publicKey",)) from None
    return key


async def remove_signing_key(key: SigningKey, *, by: Viewer) -> None:
    """Trust a key no longer. What it signed stays; without any key uploads need no signature."""
    organization: Organization = key.organization
    by.must("signing_key.write", organization.id)
    require_active(organization)
    async with transaction():
        if not await SigningKey.filter(id=key.id).delete():
            raise NotFound("This signing key is gone already.", path=("id",))
        await _record(by, "signing_key.removed", key, organization)


async def require_signature(organization: Organization, signature: str | None, about: Statement) -> SigningKey | None:
    """The key of the organization that signed exactly this; None where it has no keys and nobody signed.

    Raises BinaryInvalid: SIGNATURE_REQUIRED without a signature where there are keys, SIGNATURE_INVALID for one that none of them made.
    Source: firmware formats, rule 18 of "The upload gate".
    """
    keys = await SigningKey.filter(organization_id=organization.id).order_by("id")
    if signature is None and keys:
        raise BinaryInvalid(
            "This organization takes signed firmware only: sign the file with `flotilla sign`, and send the signature with it.",
            reason="SIGNATURE_REQUIRED",
            path=("signature",),
        )
    signer = next((key for key in keys if signature is not None and is_signed_by(key.public_key, signature, about)), None)
    if signature is not None and signer is None:
        raise BinaryInvalid(
            f"None of the organization's {len(keys)} signing keys made this signature for version {about.version} of product "
            f"{about.product_id}, {about.size} bytes, {about.platform}, SHA-256 {about.sha256}.",
            reason="SIGNATURE_INVALID",
            path=("signature",),
        )
    return signer


async def _record(by: Viewer, action: str, key: SigningKey, organization: Organization) -> None:
    subject = f"signing-key:{key.name}"
    await record(by, action, subject, organization_id=organization.id, name=key.name, public_key=key.public_key)
