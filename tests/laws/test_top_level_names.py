"""The law of the flat layout: no installed distribution but ours provides one of our top-level names."""

import importlib.metadata
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.laws.house import ROOMS, ROOT


def shadowed(packages: Mapping[str, list[str]]) -> list[str]:
    """Our rooms and `tests` that another distribution would put before ours on the path, or over it."""
    return [
        f"{name} is provided by {', '.join(others)}"
        for name in (*ROOMS, "tests", "bench")
        if (others := sorted({distribution for distribution in packages.get(name, []) if distribution != "flotilla"}))
    ]


def test_no_other_distribution_provides_a_name_of_ours() -> None:
    assert shadowed(importlib.metadata.packages_distributions()) == []


def test_a_distribution_that_takes_one_of_our_names_is_found() -> None:
    assert shadowed({"schema": ["schema"], "realtime": ["flotilla"], "redis": ["redis"]}) == ["schema is provided by schema"]


def test_the_project_lists_the_rooms_of_the_house_and_no_others() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]

    assert sorted(Path(name).stem for name in included) == sorted(ROOMS)
    assert "Private :: Do Not Upload" in project["project"]["classifiers"]
