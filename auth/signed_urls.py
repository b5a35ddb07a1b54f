"""Tickets that let one device fetch one thing for a short time, with no other credential and no query to the database."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from auth.keys import derive_key

SIGNATURE_BYTES = 16  # 128 of HMAC-SHA-256's 256 bits: 22 characters
TICKET_MAX_LENGTH = 40


class UrlSigner:
    """Signs paths; one for each process, made at start-up. Every process with the same SECRET_KEY accepts its tickets.

    The URL is the signed parts and the ticket: `/firmware/<device id>/<update id>/<ticket>`.
    Source: device protocol, "Downloading firmware".
    """

    def __init__(self, secret_key: str) -> None:
        self._key = derive_key(secret_key, "signed-urls")

    def sign(self, parts: Sequence[str], *, expires_at: datetime) -> str:
        """The ticket for exactly these `parts`, e.g. ("firmware", device id, update id); URL-safe, about 33 characters."""
        expiry = str(int(expires_at.timestamp()))
        return f"{expiry}.{self._signature(parts, expiry)}"

    def verify(self, parts: Sequence[str], ticket: str, *, now: datetime) -> bool:
        """Whether `ticket` was signed for exactly these parts and has not expired. Any text may be asked about."""
        expiry, dot, signature = ticket.partition(".")
        if len(ticket) > TICKET_MAX_LENGTH or not dot or not (expiry.isascii() and expiry.isdecimal()):
            return False
        genuine = hmac.compare_digest(self._signature(parts, expiry).encode(), signature.encode(errors="replace"))
        return genuine and now.timestamp() < int(expiry)

    def seconds_left(self, ticket: str, *, now: datetime) -> int:
        """How long a ticket that was just verified is still good, and whatever is handed out for it may be: at least 1."""
        return max(1, int(ticket.partition(".")[0]) - int(now.timestamp()))

    def _signature(self, parts: Sequence[str], expiry: str) -> str:
        signed = hmac.new(self._key, digestmod=sha256)
        for part in (expiry, *parts):
            encoded = part.encode(errors="replace")
            signed.update(len(encoded).to_bytes(4) + encoded)  # with its length: ("a", "bc") is not ("ab", "c")
        return urlsafe_b64encode(signed.digest()[:SIGNATURE_BYTES]).rstrip(b"=").decode()
