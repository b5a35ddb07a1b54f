"""The detached signature of a firmware file: what exactly is signed, by the maker with a key that never comes here, and how it is checked.

What is signed are these six lines, in ASCII, each ended by a line feed, with the product's number, the version, the SHA-256 of the
file in lower-case hexadecimal, its size in bytes, and the product's platform as in the schema:

    flotilla-firmware-1
    product 1094
    version 7
    sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    size 2048
    platform PHOTON

The signature is Ed25519 (RFC 8032) over these bytes; 64 bytes, written as base64url without padding. So are public keys, of 32 bytes.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from firmware_formats.content import Content

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_TRIES = 256
_FORGED = b"\x01" + bytes(63)  # R is the neutral point, S is 0: good under a weak key whenever its multiple by the hash vanishes


class NoKey(Exception):
    """The bytes are no Ed25519 private key; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signature is about."""

    product_id: int
    version: int
    sha256: str
    size: int
    platform: str

    @property
    def signed_bytes(self) -> bytes:
        lines = (
            "flotilla-firmware-1",
            f"product {self.product_id}",
            f"version {self.version}",
            f"sha256 {self.sha256.lower()}",
            f"size {self.size}",
            f"platform {self.platform}",
        )
        return "".join(f"{line}\n" for line in lines).encode("ascii")


def statement(content: Content, *, product_id: int, version: int, platform: str) -> Statement:
    """About these bytes as this version of this product."""
    return Statement(product_id, version, hashlib.sha256(content).hexdigest(), len(content), platform)


# ── the maker's side ──
def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """As PKCS #8 without a passphrase, for a file that only its owner reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_private_key(raw: bytes) -> Ed25519PrivateKey:
    """From a PEM file without a passphrase, or 32 bare bytes. Raises NoKey."""
    if len(raw) == PUBLIC_KEY_BYTES:
        return Ed25519PrivateKey.from_private_bytes(raw)
    try:
        key = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise NoKey("This is no private key: an unencrypted PEM file, or 32 bare bytes, was expected.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise NoKey("This is a private key of another kind: Ed25519 was expected.")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half, as the server takes it."""
    return _text(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def sign(key: Ed25519PrivateKey, about: Statement) -> str:
    return _text(key.sign(about.signed_bytes))


# ── the server's side ──
def is_public_key(text: str) -> bool:
    """Whether `text` is a public key that can tell a signature from a forgery: a few points of the curve can't."""
    raw = _bytes(text, PUBLIC_KEY_BYTES)
    return raw is not None and not any(_holds(raw, _FORGED, bytes([number])) for number in range(_TRIES))


def is_signed_by(public_key: str, signature: str, about: Statement) -> bool:
    """Whether whoever holds the private half of `public_key` signed exactly this."""
    key, raw = _bytes(public_key, PUBLIC_KEY_BYTES), _bytes(signature, SIGNATURE_BYTES)
    return key is not None and raw is not None and _holds(key, raw, about.signed_bytes)


def _holds(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str, length: int) -> bytes | None:
    """What `text` stands for; None unless it is the one way to write that many bytes."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        return None
    return raw if len(raw) == length and _text(raw) == text else None
