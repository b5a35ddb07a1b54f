"""What it means for two names to be the same: e-mail addresses, titles, user names, slugs."""

import re
import unicodedata

from errors import InvalidInput

EMAIL_MAX = 254
_EMAIL = re.compile(r"[^\s@<>\x00-\x1f]+@[^\s@<>\x00-\x1f]+\Z")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def same_name_key(text: str) -> str:
    """NFKC and casefold: look-alikes and other capitals are the same name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def require_email(text: str, *, path: tuple[str, ...] = ("email",)) -> str:
    """The trimmed address. Raises InvalidInput for what is none."""
    address = text.strip()
    if len(address) > EMAIL_MAX or not _EMAIL.match(address):
        raise InvalidInput("This is not an e-mail address.", path=path)
    return address


def require_text(text: str, *, path: tuple[str, ...], max_length: int = 100, min_length: int = 1) -> str:
    """The trimmed text. Raises InvalidInput when it is too short, too long, or holds control characters."""
    trimmed = text.strip()
    if not min_length <= len(trimmed) <= max_length:
        raise InvalidInput(f"This takes {min_length} to {max_length} characters.", path=path)
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in trimmed):
        raise InvalidInput("This must not hold control characters.", path=path)
    return trimmed


def slug_base(name: str) -> str:
    """The name as part of an address: lower-case ASCII letters, digits and single hyphens, at most 60; may be empty."""
    ascii_only = unicodedata.normalize("NFKD", same_name_key(name)).encode("ascii", "ignore").decode()
    return _NOT_SLUG.sub("-", ascii_only).strip("-")[:60].strip("-")
