"""The schema as the one text that clients, reviewers and the laws read: `python -m schema.printing` writes schema/schema.graphql."""

from pathlib import Path

from schema.build import build_schema

SNAPSHOT = Path(__file__).with_name("schema.graphql")


def printed() -> str:
    return build_schema().as_str().rstrip() + "\n"


def refresh() -> None:
    SNAPSHOT.write_text(printed(), encoding="utf-8")


if __name__ == "__main__":
    refresh()
