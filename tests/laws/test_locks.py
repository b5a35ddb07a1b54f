"""The law of the locks: every package pinned and hashed, no address in it, and the locks are what pyproject.toml asks for."""

import json
import re
import tomllib
from dataclasses import dataclass

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.laws.house import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock")
FLOORS = {"strawberry-graphql": "0.314"}  # below it, sockets of the legacy protocol pass by without authentication
PINNED = ("strawberry-graphql", "tortoise-orm", "stripe", "graphene-django-graphiql-static")
LEFT_OUT = ("orjson", "aioredis")  # Tortoise writes `import orjson` into migrations where it is installed; aioredis has ended


def read_lock(text: str) -> dict[str, str]:
    """Package → version on this platform. Raises AssertionError for a line without an exact version, without a hash, or with an address."""
    versions: dict[str, str] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9-])", re.sub(r"(?m)^\s*#.*\n?", "", text).strip()):
        head = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry)
        assert head, f"not pinned: {entry.splitlines()[0]}"
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"no hash: {head[0]}"
        assert "://" not in entry, f"an address: {head[0]}"
        marker = re.search(r";([^\\]+)", entry)
        if marker is None or Marker(marker[1]).evaluate():
            versions[canonicalize_name(head[1])] = head[2]
    return versions


def unmet(requirements: list[str], versions: dict[str, str]) -> list[str]:
    """The requirements of this platform that `versions` does not satisfy."""
    wanted = [want for want in map(Requirement, requirements) if want.marker is None or want.marker.evaluate()]
    return [str(want) for want in wanted if not want.specifier.contains(versions.get(canonicalize_name(want.name), "0"), prereleases=True)]


@dataclass(frozen=True)
class Wanted:
    """What pyproject.toml asks for."""

    runtime: list[str]
    development: list[str]


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return Wanted(project["dependencies"], project["optional-dependencies"]["dev"])


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_hashes_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert len(read_lock(text)) > 40
    assert "://" not in text
    assert "-c " not in text


def test_the_locks_satisfy_the_project(wanted: Wanted) -> None:
    runtime, development = (read_lock((ROOT / lock).read_text()) for lock in LOCKS)

    assert unmet(wanted.runtime, runtime) == []
    assert unmet([*wanted.runtime, *wanted.development], development) == []
    assert runtime.items() <= development.items()


def test_floors_hold_and_what_is_left_out_stays_out() -> None:
    versions = read_lock((ROOT / "requirements-dev.lock").read_text())

    assert {name: versions[name] for name, floor in FLOORS.items() if Version(versions[name]) < Version(floor)} == {}
    assert versions.keys() & set(LEFT_OUT) == set()


def test_what_we_wrap_or_patch_is_pinned_exactly(wanted: Wanted) -> None:
    exact = {Requirement(text).name for text in wanted.runtime if "==" in text}

    assert exact == set(PINNED)


def test_the_lock_of_the_npm_peers_holds_hashes_and_no_registry() -> None:
    packages = json.loads((ROOT / "tests/npm/package-lock.json").read_text())["packages"]
    ours, peers = packages.pop(""), packages

    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in ours["dependencies"].values())
    assert [name for name, package in peers.items() if "integrity" not in package or "resolved" in package] == []


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("redis>=7\n", "not pinned"),
        ("redis==8.1.0\n    # via flotilla\n", "no hash"),
        (f"redis==8.1.0 \\\n    --hash=sha256:{'0' * 64}\nredis @ https://a.example/redis.whl\n", "not pinned"),
        (f"--index-url https://a.example\nredis==8.1.0 \\\n    --hash=sha256:{'0' * 64}\n", "not pinned"),
    ],
)
def test_a_lock_that_trusts_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(AssertionError, match=refusal):
        read_lock(text)


def test_a_requirement_the_lock_forgot_or_misses_is_found() -> None:
    assert unmet(["redis[hiredis]>=7", "click>=9", "stripe==16.1.0"], {"redis": "8.1.0", "click": "8.5.1"}) == [
        "click>=9",
        "stripe==16.1.0",
    ]
