"""Which new passwords are taken: long ones, of any characters, that are not made of nothing but the commonest pieces."""

import random
import string

import pytest

from auth.password_strength import is_guessable, require_strong
from errors import InvalidInput, PasswordTooWeak

EMAIL = "ada.lovelace@analytical.example"

GUESSABLE = [
    "aaaaaaaaaaaaaaa",
    "abababababababab",
    "abababababababa1",
    "abcdefghijklmnop",
    "ponmlkjihgfedcba",
    "123456789012345",
    "1234567890123456",
    "987654321098765",
    "qwertyuiopasdfghjkl",
    "1qaz2wsx3edc4rfv",
    "q1w2e3r4t5y6u7i8",
    "passwordpassword",
    "Password1234567",
    "P@ssw0rdP@ssw0rd!",
    "Passwort123456!",
    "correct horse battery staple",
    "CorrectHorseBatteryStaple1",
    "to be or not to be",
    "letmeinletmeinletmein",
    "iloveyouiloveyou",
    "hunter2hunter2hunter2",
    "Xk7#Xk7#Xk7#Xk7#",
    "Vq8!xMzVq8!xMzVq",
    "Summer2024Summer2024",
    "flotillaflotilla",
    "Flotilla-2025-!!!",
    "administrator123",
    "lovelace.ada.lovelace",
    "ada.lovelace@analytical.example",
    "Analytical-2024!",
    "               ",
]


@pytest.mark.parametrize("password", GUESSABLE)
def test_a_long_password_of_a_few_obvious_steps_is_refused(password):
    with pytest.raises(PasswordTooWeak) as refused:
        require_strong(password, email=EMAIL)

    assert refused.value.code == "PASSWORD_TOO_WEAK"
    assert refused.value.path == ("password",)
    assert "unrelated words" in refused.value.message
    assert password not in refused.value.message


@pytest.mark.parametrize(
    "password",
    [
        "marble tin heron",
        "four geese walked to the printer",
        "the password of my aunt is longer",
        "my dog ate 3 pink socks",
        "Tr0ub4dor&3xkqzvw",
        "zwölf boxkämpfer jagen",
        "пятнадцать букв тут",
        "我家门前有两棵树一棵是枣树也许",
        "🐢🦊🐙🦉🐝🦀🐳🦔🐌🦜🐞🦚🐍🦭🐊",
        "correct horse battery staple of the third kind",
        "83920175466120957",
    ],
)
def test_a_long_password_of_any_characters_is_taken(password):
    require_strong(password, email=EMAIL, name="Ada Lovelace")


def test_fourteen_characters_are_too_few_and_fifteen_are_enough():
    with pytest.raises(PasswordTooWeak, match="at least 15 characters"):
        require_strong("heron marble x", email=EMAIL)

    require_strong("heron marble xy", email=EMAIL)


def test_length_is_counted_after_normalization():
    """Fifteen letters typed as letter and combining mark are thirty code points of one keyboard and fifteen of another."""
    composed = "üöäéèêñçåïôûàáì"

    require_strong(composed, email=EMAIL)
    require_strong("u\u0308o\u0308a\u0308e\u0301e\u0300e\u0302n\u0303c\u0327a\u030ai\u0308o\u0302u\u0302a\u0300a\u0301i\u0300", email=EMAIL)
    with pytest.raises(PasswordTooWeak, match="at least 15 characters"):
        require_strong("u\u0308o\u0308a\u0308e\u0301e\u0300e\u0302n\u0303c\u0327", email=EMAIL)


def test_64_characters_and_a_kilobyte_are_taken_and_more_is_refused():
    letters = "".join(random.Random(1).choices(string.ascii_letters, k=1025))

    require_strong(letters[:64], email=EMAIL)
    require_strong(letters[:1024], email=EMAIL)
    with pytest.raises(InvalidInput, match="longer than 1024 bytes"):
        require_strong(letters, email=EMAIL)
    with pytest.raises(InvalidInput, match="longer than 1024 bytes"):
        require_strong("\ufdfa" * 100, email=EMAIL)  # 300 bytes that normalize to 3300
    with pytest.raises(InvalidInput, match="longer than 1024 bytes"):
        require_strong("x" * 1_000_000, email=EMAIL)


def test_what_is_no_unicode_text_is_refused():
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        require_strong("four geese \ud800 walked", email=EMAIL)


def test_ones_own_name_and_the_path_of_the_field_are_respected():
    with pytest.raises(PasswordTooWeak) as refused:
        require_strong("BartholomewCubbins1", email="b@c.example", name="Bartholomew Cubbins", path=("new",))

    assert refused.value.path == ("new",)
    require_strong("BartholomewCubbins1", email="b@c.example")


def test_random_passwords_are_practically_never_called_guessable():
    chance = random.Random(7)
    alphabets = (string.digits, string.ascii_lowercase, string.ascii_letters + string.digits + string.punctuation)

    refused = [sum(is_guessable("".join(chance.choices(alphabet, k=16))) for _ in range(1000)) for alphabet in alphabets]

    assert refused == [0, 0, 0]
