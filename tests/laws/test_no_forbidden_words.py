"""The law of names: no module is named after being a bag, and no name says less than the thing it names."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.laws.house import ROOT, Module, in_rooms, modules, plant

BAGS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "services",
    "service",
    "managers",
    "manager",
    "common",
    "misc",
    "stuff",
}
# One word, one thing: the vocabulary's words, and what is never said instead of them.
NEVER_SAID = {"fw_ver", "fw_version", "coreid", "core_id", "thing", "info2", "handle_stuff", "tenant", "cohort"}


def bags(root: Path) -> list[str]:
    return [module.name for module in modules(root) if BAGS & set(module.name.removesuffix(".py").split("/"))]


def never_said(root: Path) -> list[str]:
    return [f"{module.name}:{line} {name}" for module in in_rooms(root) for line, name in _names(module) if name.lower() in NEVER_SAID]


def _names(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def test_no_module_is_a_bag() -> None:
    assert bags(ROOT) == []


def test_nothing_has_a_name_the_vocabulary_refuses() -> None:
    assert never_said(ROOT) == []


def test_a_bag_is_found_as_a_file_and_as_a_folder(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/utils.py": "",
            "common/text.py": "",
            "tests/helpers.py": "",
            "fleet/locking.py": "",
        },
    )

    assert bags(tmp_path) == ["common/text.py", "fleet/utils.py", "tests/helpers.py"]


def test_a_refused_name_is_found_where_it_is_given(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/locking.py": "def lock(coreid):\n    fw_ver = coreid\n    return fw_ver\n",
            "models/tenant.py": "class Tenant: ...\n",
        },
    )

    assert never_said(tmp_path) == ["fleet/locking.py:1 coreid", "fleet/locking.py:2 fw_ver", "models/tenant.py:1 Tenant"]
