"""Decides whether a new password is hard enough to guess: long, and not made of nothing but the commonest pieces.

There is no composition rule: no character has to be there. Length is the rule (15 characters and more), and a blocklist
catches the long passwords that guessers try first. Lists of leaked passwords hold hardly any of 15 characters, and those
are short ones strung together; so instead of comparing with a huge list, the password is read as **steps**, as a guesser
would build it: a common word or phrase (common_passwords.txt), a word of one's own address or name, the product's name, a
run along the alphabet or the keyboard and a repeated character are one step each, and so is any other single character.
What repeats as a whole counts once. Fewer than 8 steps, or fewer than 5 different ones, are refused.
"passwordpassword123" is 3 steps, "Tr0ub4dor&3xkqzvw" is 17; the whole password is judged, never a word inside a long one.
Source: NIST SP 800-63B-4, "Password Verifiers".
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from auth.passwords import MAX_BYTES
from errors import InvalidInput, PasswordTooWeak

MIN_CHARACTERS = 15
MIN_STEPS = 8
MIN_DIFFERENT_STEPS = 5
PIECE_MIN = 3  # characters of a word that counts as one step
PRODUCT_NAME = "flotilla"

_RUNS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop[]",
    "qwertzuiopü",
    "azertyuiop",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "yxcvbnm,.-",
    "!@#$%^&*()_+",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
)
_BOTH_WAYS = _RUNS + tuple(row[::-1] for row in _RUNS)
_RUN_MIN = 3
_SUBSTITUTES = str.maketrans("@4831!05$7+", "aabeiiosstt")


def require_strong(password: str, *, email: str, name: str = "", path: tuple[str, ...] = ("password",)) -> None:
    """Accept `password` for the account of `email` and `name`, in silence.

    Raises PasswordTooWeak saying what to do, or InvalidInput for what is no text or above 1024 bytes.
    """
    normal = unicodedata.normalize("NFKC", password[: MAX_BYTES + 1])
    try:
        size = max(len(password.encode()), len(normal.encode()))
    except UnicodeEncodeError:
        raise InvalidInput("The password is not valid Unicode text.", path=path) from None
    if size > MAX_BYTES:
        raise InvalidInput(f"The password is longer than {MAX_BYTES} bytes: take a shorter one.", path=path)
    if len(normal) < MIN_CHARACTERS:
        raise PasswordTooWeak(f"Use at least {MIN_CHARACTERS} characters: a few words of your own make a good password.", path=path)
    if is_guessable(normal, own_words=own_words(email, name)):
        raise PasswordTooWeak(
            "This password is among the first that are tried: it is made of common words, sequences, repetitions, or your own name or"
            " address. Use a few unrelated words.",
            path=path,
        )


def own_words(*texts: str) -> frozenset[str]:
    """Each text and the words in it that are long enough to be a piece of a password."""
    folded = [_folded(text) for text in texts]
    return frozenset(word for text in folded for word in (text, *re.split(r"[\W_]+", text)) if len(word) >= PIECE_MIN)


def is_guessable(password: str, *, own_words: frozenset[str] = frozenset()) -> bool:
    """Whether the whole password is but a few obvious steps."""
    steps = _without_repetition(_steps(_folded(password), own_words | {PRODUCT_NAME} | _common_pieces()))
    return len(steps) < MIN_STEPS or len(set(steps)) < MIN_DIFFERENT_STEPS


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _steps(text: str, pieces: frozenset[str]) -> list[str]:
    """The reading of `text` in the fewest steps; decided from the end, since the longest piece first is not always best."""
    plain = text.translate(_SUBSTITUTES)  # as long as `text`: p@ssw0rd is read as password
    longest = max(len(piece) for piece in pieces)
    size_at, steps_from = [0] * len(text), [0] * (len(text) + 1)
    for at in reversed(range(len(text))):
        known = (size for size in range(PIECE_MIN, longest + 1) if text[at : at + size] in pieces or plain[at : at + size] in pieces)
        sizes = {min(size, len(text) - at) for size in (*known, _run_length(text[at:]), 1)}
        size_at[at] = min(sizes, key=lambda size: (steps_from[at + size], -size))
        steps_from[at] = 1 + steps_from[at + size_at[at]]
    return list(_cut(plain, size_at))


def _cut(text: str, size_at: list[int]) -> Iterator[str]:
    at = 0
    while at < len(text):
        yield text[at : at + size_at[at]]
        at += size_at[at]


def _run_length(text: str) -> int:
    """How many characters from the start repeat one, or follow a row of _RUNS either way; 1 where it is too short to be a run."""
    same = len(text) - len(text.lstrip(text[0]))
    along = max((_common_start(text, row[row.index(text[0]) :]) for row in _BOTH_WAYS if text[0] in row), default=1)
    length = max(same, along)
    return length if length >= _RUN_MIN else 1


def _common_start(left: str, right: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _without_repetition(steps: list[str]) -> list[str]:
    """The shortest beginning that, repeated, gives the whole (its last repetition may be cut short)."""
    period = next(size for size in range(1, len(steps) + 1) if all(step == steps[at % size] for at, step in enumerate(steps)))
    return steps[:period]


@cache
def _common_pieces() -> frozenset[str]:
    """One piece a line; folded like passwords, and also with its spaces left out."""
    lines = Path(__file__).with_name("common_passwords.txt").read_text(encoding="utf-8").splitlines()
    pieces = {_folded(line.strip()) for line in lines if line.strip() and not line.startswith("# ")}
    return frozenset(pieces | {piece.replace(" ", "") for piece in pieces})
