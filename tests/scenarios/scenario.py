"""What a scenario is: how one mutation, or one field of Query, comes to be called with success.

A module of this folder holds those of one noun:

    @mutation("inviteMember")
    async def _(stage: Stage) -> Input:
        return {"organization": ACME, "email": "guest@example.com"}

The function prepares what has to be there, as a rule by ORM rows or by other mutations, and returns the input; the laws call the
mutation itself, as everybody of the cast in turn. tests/laws/test_audit.py and tests/laws/test_authorization.py run them all.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from tests.scenarios.stage import OWNER, Stage

Input: TypeAlias = Mapping[str, Any]
Prepare: TypeAlias = Callable[[Stage], Awaitable[Input]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`by` calls it with success; `entries` of the audit come of that, in the organization's log unless it is about an account."""

    prepare: Prepare
    by: str | None
    entries: int
    in_organization: bool
    billing: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A field of Query or Subscription: `text` is an operation with one root field, `find`, and the variables come from `prepare`."""

    prepare: Prepare
    text: str


MUTATIONS: dict[str, Scenario] = {}
READINGS: dict[str, Reading] = {}
STREAMS: dict[str, Reading] = {}


def mutation(
    name: str, *, by: str | None = OWNER, entries: int = 1, in_organization: bool = True, billing: str = "off"
) -> Callable[[Prepare], Prepare]:
    """Register the scenario of a mutation. `by=None`: nobody needs to be logged in. `entries=0`: it changes nothing of ours.

    `billing` is the mode of the house; the organizations of the stage are exempt unless the scenario has them adopted.
    """

    def register(prepare: Prepare) -> Prepare:
        MUTATIONS[name] = Scenario(prepare, by, entries, in_organization, billing)
        return prepare

    return register


def reading(name: str, text: str) -> Callable[[Prepare], Prepare]:
    """Register how a field of Query is asked."""

    def register(prepare: Prepare) -> Prepare:
        READINGS[name] = Reading(prepare, text)
        return prepare

    return register


def streaming(name: str, text: str) -> Callable[[Prepare], Prepare]:
    """Register how a field of Subscription is asked."""

    def register(prepare: Prepare) -> Prepare:
        STREAMS[name] = Reading(prepare, text)
        return prepare

    return register


def load() -> None:
    """Read every module of this folder: a new one needs no mention anywhere."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        import_module(f"tests.scenarios.{path.stem}")
