"""How a device proves who it is: the bytes it signs, and the checks of a signature, a MAC and a first contact."""

import base64
import binascii
import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.protocol import NONCE_BYTES, SUBPROTOCOL

PUBLIC_KEY_BYTES = 32


def to_base64url(raw: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes `text` stands for; ValueError unless it is the one way to write them, so that one key has one text."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64url") from None
    if to_base64url(raw) != text:
        raise ValueError("not base64url without padding")
    return raw


def new_nonce() -> str:
    return to_base64url(secrets.token_bytes(NONCE_BYTES))


def signed_bytes(nonce: str, device_id: str) -> bytes:
    """What a device signs: the nonce as the text it received, its id in lower case."""
    return f"{SUBPROTOCOL}\n{nonce}\n{device_id.lower()}".encode()


# ── the device's side ──
def public_key_text(key: Ed25519PrivateKey) -> str:
    return to_base64url(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def signature(key: Ed25519PrivateKey, nonce: str, device_id: str) -> str:
    return to_base64url(key.sign(signed_bytes(nonce, device_id)))


def mac(secret: str, nonce: str, device_id: str) -> str:
    return _hmac(secret, signed_bytes(nonce, device_id))


def provisioning(provisioning_key: str, nonce: str, device_id: str, public_key: str) -> str:
    """Ties a new public key to the product's provisioning key at first contact."""
    return _hmac(provisioning_key, signed_bytes(nonce, device_id) + public_key.encode())


# ── the server's side ──
def is_public_key(text: str) -> bool:
    """Whether `text` is an Ed25519 public key, 32 bytes in base64url."""
    try:
        raw = from_base64url(text)
        Ed25519PublicKey.from_public_bytes(raw)
        return len(raw) == PUBLIC_KEY_BYTES
    except ValueError:
        return False


def signature_proves(said: str | None, public_key: str, nonce: str, device_id: str) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(from_base64url(public_key))
        key.verify(from_base64url(said or ""), signed_bytes(nonce, device_id))
    except (ValueError, InvalidSignature):
        return False
    return True


def mac_proves(said: str | None, secret: str, nonce: str, device_id: str) -> bool:
    """An empty secret proves nothing."""
    return bool(secret) and _same(said, mac(secret, nonce, device_id))


def provisioning_proves(said: str | None, provisioning_key: str, nonce: str, device_id: str, public_key: str) -> bool:
    """Whether a first contact may pin `public_key`. A signature beside it is optional; one that is there must prove as well."""
    return bool(provisioning_key) and _same(said, provisioning(provisioning_key, nonce, device_id, public_key))


def _hmac(secret: str, message: bytes) -> str:
    return to_base64url(hmac.new(secret.encode(), message, hashlib.sha256).digest())


def _same(said: str | None, right: str) -> bool:
    return hmac.compare_digest((said or "").encode(), right.encode())
