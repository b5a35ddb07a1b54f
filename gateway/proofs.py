"""How a device proves who it is: the bytes it signs, and the checks of a signature, a MAC and a first contact."""

import hashlib
import hmac
import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.protocol import NONCE_BYTES, SUBPROTOCOL
from public_keys import is_signed_by, to_base64url


def new_nonce() -> str:
    return to_base64url(secrets.token_bytes(NONCE_BYTES))


def signed_bytes(nonce: str, device_id: str) -> bytes:
    """What a device signs: the nonce as the text it received, its id in lower case."""
    return f"{SUBPROTOCOL}\n{nonce}\n{device_id.lower()}".encode()


# ── the device's side ──
def signature(key: Ed25519PrivateKey, nonce: str, device_id: str) -> str:
    return to_base64url(key.sign(signed_bytes(nonce, device_id)))


def mac(secret: str, nonce: str, device_id: str) -> str:
    return _hmac(secret, signed_bytes(nonce, device_id))


def provisioning(provisioning_key: str, nonce: str, device_id: str, public_key: str) -> str:
    """Ties a new public key to the product's provisioning key at first contact."""
    return _hmac(provisioning_key, signed_bytes(nonce, device_id) + public_key.encode())


# ── the server's side ──
def signature_proves(said: str | None, public_key: str, nonce: str, device_id: str) -> bool:
    return is_signed_by(public_key, said or "", signed_bytes(nonce, device_id))


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
