"""Opaque tokens: `flp_` + 32 random characters + 6 check digits; shown once, kept as a hash, refused by sight when mistyped."""

import hmac
import re
import secrets
import string
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from zlib import crc32

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY_LENGTH = 32  # 190 random bits; 166 stay unknown beside the four characters that lists show
CHECK_LENGTH = 6  # CRC-32 in base 62
SHOWN_LENGTH = 4

_SHAPE = re.compile(rf"(fl[a-z])_[0-9A-Za-z]{{{BODY_LENGTH + CHECK_LENGTH}}}")


class Kind(Enum):
    """What a token is for; its prefix tells people, log filters and secret scanners at sight."""

    SESSION = "flu"  # a person who logged in
    ACCESS_TOKEN = "flp"  # a person's own, with scopes, for programs
    API_USER = "fla"  # a machine account's only one
    CUSTOMER = "flc"  # a customer of one product
    PASSWORD_RESET = "flr"  # mailed, single use
    EMAIL_PROOF = "flv"  # mailed to a customer, single use
    CLAIM_CODE = "flm"  # shown by a device at its first hello, single use
    DEVICE_SECRET = "fld"  # a device's HMAC secret: sealed, since the server must compute with it
    PROVISIONING_KEY = "flk"  # a product's, sealed likewise
    OAUTH_CODE = "flo"  # single use, for seconds
    REFRESH_TOKEN = "flx"  # single use: each makes the next
    CLIENT_SECRET = "fls"  # an app's, at the token endpoint


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token. `text` is shown once and never stored; `hash` is stored; `shown_prefix` names it in lists for ever."""

    text: str
    hash: str
    shown_prefix: str

    def __repr__(self) -> str:  # the text must not reach a log by way of a traceback or a careless f-string
        return f"Minted({self.shown_prefix}…)"


def mint(kind: Kind) -> Minted:
    """A fresh token of `kind`, 42 characters of `A-Z a-z 0-9 _`."""
    unchecked = f"{kind.value}_{''.join(secrets.choice(ALPHABET) for _ in range(BODY_LENGTH))}"
    text = unchecked + _check_digits(unchecked)
    return Minted(text=text, hash=digest(text), shown_prefix=text[: len(kind.value) + 1 + SHOWN_LENGTH])


def digest(text: str) -> str:
    """The SHA-256 under which a token is stored and looked up, 64 hex digits. Any text may be asked about.

    No salt and no slow hash: 190 random bits cannot be guessed, and a lookup needs the same digest every time.
    """
    return sha256(text.encode(errors="replace")).hexdigest()


def kind_of(text: str) -> Kind | None:
    """The kind of a well-formed token, None for anything else. Says nothing about whether the token exists."""
    shape = _SHAPE.fullmatch(text)
    if not shape or not hmac.compare_digest(_check_digits(text[:-CHECK_LENGTH]), text[-CHECK_LENGTH:]):
        return None
    return _KINDS.get(shape[1])


def well_formed(text: str) -> bool:
    """Whether `text` can be a token at all; what is not is refused without a query."""
    return kind_of(text) is not None


def matches(text: str, stored_hash: str) -> bool:
    """Whether `text` is the token behind a stored hash, in constant time."""
    return hmac.compare_digest(digest(text), stored_hash)


def _check_digits(unchecked: str) -> str:
    """CRC-32 of prefix and body, so that a token with its prefix exchanged is refused as well."""
    number = crc32(unchecked.encode())
    return "".join(ALPHABET[number // 62**place % 62] for place in reversed(range(CHECK_LENGTH)))
