"""Ed25519 public keys and signatures as text, of devices and of makers alike: base64url without padding, in the one spelling there is.

A signature is checked by libsodium, which takes half the time that OpenSSL does; ten thousand devices that come back wait for little else.
"""

import base64
import binascii

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

KEY_BYTES = 32
_SIGN_BIT = 0x7F  # of the last byte: a point and its mirror image share the rest
# The points of small order, and two of them in a second spelling: under such a key anybody can sign every eighth message, or each.
_WEAK = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


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


def public_half(key: Ed25519PrivateKey) -> str:
    return to_base64url(key.public_key().public_bytes_raw())


def is_public_key(text: str) -> bool:
    """Whether `text` is an Ed25519 public key that can tell a signature from a forgery: a few points of the curve can't."""
    try:
        raw = from_base64url(text)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        return False
    return raw[:-1] + bytes([raw[-1] & _SIGN_BIT]) not in _WEAK


def is_signed_by(public_key: str, signature: str, message: bytes) -> bool:
    """Whether whoever holds the private half of `public_key` signed exactly these bytes. Any text may be asked about."""
    try:
        VerifyKey(from_base64url(public_key)).verify(message, from_base64url(signature))
    except (ValueError, BadSignatureError):
        return False
    return True
