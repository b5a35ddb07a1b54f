"""Seals the small secrets that the server must be able to read again, so that a database dump holds none of them."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auth.keys import derive_key

VERSION = b"\x01"
NONCE_BYTES = 12  # random: good for 2^32 seals under one secret


class SealBroken(Exception):
    """What is stored was not sealed here for this purpose: another SECRET_KEY, another row's value, or damage.

    Never the caller's doing, so it is not a CallerError.
    """


class Sealer:
    """AES-256-GCM under a key of its own; one for each process, made at start-up, free of state and safe in any thread."""

    def __init__(self, secret_key: str) -> None:
        self._cipher = AESGCM(derive_key(secret_key, "sealing"))

    def seal(self, plain: str, *, context: str) -> str:
        """`plain` as URL-safe text for a column; a different one at each call, 39 characters and a third longer.

        `context` names the one place it belongs to, e.g. "device/55ff6d04498b49aabbccdd01/secret": a value copied to
        another row does not open there.
        """
        nonce = os.urandom(NONCE_BYTES)
        closed = self._cipher.encrypt(nonce, plain.encode(), _bound_to(context))
        return urlsafe_b64encode(VERSION + nonce + closed).decode()

    def unseal(self, sealed: str, *, context: str) -> str:
        """What was sealed for `context`. Raises SealBroken."""
        try:
            raw = urlsafe_b64decode(sealed.encode())
            nonce, closed = raw[1 : 1 + NONCE_BYTES], raw[1 + NONCE_BYTES :]
            if raw[:1] != VERSION:
                raise SealBroken("The sealed value has an unknown version.")
            return self._cipher.decrypt(nonce, closed, _bound_to(context)).decode()
        except (InvalidTag, ValueError):  # ValueError: not base64, not UTF-8, too short for a nonce
            raise SealBroken("The sealed value does not open: was SECRET_KEY changed, or the row copied?") from None


def _bound_to(context: str) -> bytes:
    return VERSION + context.encode()
