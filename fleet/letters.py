"""How every letter writes names and times."""

from datetime import UTC, datetime

NAME_MAX = 80  # characters of a name in a mail: names are chosen by others and must not become the letter


def name_line(text: str) -> str:
    """A name chosen by somebody, fit for a subject: one line, nothing that is not to be seen, not endless."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= NAME_MAX else f"{line[: NAME_MAX - 1]}…"


def moment(at: datetime) -> str:
    """A time as letters write it."""
    return f"{at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC"
