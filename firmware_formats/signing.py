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

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

import public_keys
from firmware_formats.content import Content


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
    if len(raw) == public_keys.KEY_BYTES:
        return Ed25519PrivateKey.from_private_bytes(raw)
    try:
        key = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise NoKey("This is no private key: an unencrypted PEM file, or 32 bare bytes, was expected.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise NoKey("This is a private key of another kind: Ed25519 was expected.")
    return key


def sign(key: Ed25519PrivateKey, about: Statement) -> str:
    return public_keys.to_base64url(key.sign(about.signed_bytes))


# ── whoever is to trust it ──
def is_signed_by(public_key: str, signature: str, about: Statement) -> bool:
    """Whether whoever holds the private half of `public_key` signed exactly this."""
    return public_keys.is_signed_by(public_key, signature, about.signed_bytes)
