"""The law of the tests themselves: each file of them asserts something, and no folder of them is a package."""

import ast
from pathlib import Path

from tests.laws.house import ROOT, modules, plant


def idle(root: Path) -> list[str]:
    """Test files without a single test that asserts or expects an error."""
    return [
        module.name
        for module in modules(root)
        if module.room == "tests" and Path(module.name).name.startswith("test_")
        if not any(_asserts(node) for node in ast.walk(module.tree) if _is_test(node))
    ]


def packages(root: Path) -> list[str]:
    """`__init__.py` among the tests: two files of one name in two folders would then be one module."""
    return [module.name for module in modules(root) if module.room == "tests" and module.name.endswith("__init__.py")]


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def _asserts(test: ast.AST) -> bool:
    for node in ast.walk(test):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "raises":
            return True
    return False


def test_every_test_file_asserts_something() -> None:
    assert idle(ROOT) == []


def test_no_folder_of_tests_is_a_package() -> None:
    assert packages(ROOT) == []


def test_a_test_file_that_proves_nothing_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "tests/test_empty.py": "",
            "tests/fleet/test_true.py": "def test_a():\n    assert True\n",
            "tests/fleet/test_unused.py": "def check():\n    assert 1 == x\n",
            "tests/fleet/test_asserts.py": "async def test_a():\n    assert await f() == 1\n",
            "tests/test_raises.py": "def test_a():\n    with pytest.raises(ValueError):\n        f()\n",
            "tests/fleet/__init__.py": "",
        },
    )

    assert idle(tmp_path) == ["tests/fleet/test_true.py", "tests/fleet/test_unused.py", "tests/test_empty.py"]
    assert packages(tmp_path) == ["tests/fleet/__init__.py"]
