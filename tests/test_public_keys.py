"""Keys as text: one spelling each, and none under which anybody can sign."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

import public_keys
from public_keys import from_base64url, is_public_key, is_signed_by, public_half, to_base64url

PUBLIC = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # RFC 8032, first test vector
FORGED = b"\x01" + bytes(63)  # R is the neutral point, S is 0: nobody's private key is needed for it


def test_base64url_has_one_way_to_write_a_value() -> None:
    assert from_base64url("_-8") == b"\xff\xef"
    for text in ("_-8=", "/+8", "_-9", "_-8\n", "_"):
        with pytest.raises(ValueError, match="base64url"):
            from_base64url(text)


def test_a_key_is_32_bytes_in_its_one_spelling() -> None:
    assert is_public_key(PUBLIC)
    assert [is_public_key(text) for text in ("", PUBLIC[:-1], PUBLIC + "=", PUBLIC[:-1] + "p", "é" * 43, "A" * 44)] == [False] * 6


def test_a_signature_holds_for_its_message_and_its_key_alone() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signature = to_base64url(key.sign(b"this"))

    assert is_signed_by(public_half(key), signature, b"this")
    assert not is_signed_by(public_half(key), signature, b"that")
    assert not is_signed_by(public_half(other), signature, b"this")
    assert not is_signed_by("no key", signature, b"this")
    assert not is_signed_by(public_half(key), "", b"this")


@pytest.mark.parametrize("sign_bit", [0, 0x80])
def test_a_key_under_which_anybody_can_sign_is_none(sign_bit: int) -> None:
    """Points of small order: a signature that nobody made holds for one message of a few."""
    for point in public_keys._WEAK:
        key = point[:-1] + bytes([point[-1] | sign_bit])

        assert not is_public_key(to_base64url(key))
        forged = [bytes([number]) for number in range(256) if _holds(key, bytes([number]))]
        assert forged, key.hex()
        assert not any(is_signed_by(to_base64url(key), to_base64url(FORGED), message) for message in forged)


def _holds(key: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(FORGED, message)
    except (InvalidSignature, ValueError):
        return False
    return True
