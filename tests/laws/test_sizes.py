"""The law of proportion: small modules, small functions, doors of a few lines, and a sentence at the head of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.laws.house import ROOT, Module, in_rooms, modules, plant

MODULE_LINES = 400
FUNCTION_LINES = 50
DOOR_LINES = 8  # a resolver loads by scope, calls one verb, returns


def headless(root: Path) -> list[str]:
    """Modules that do not open by saying what they are for; an empty `__init__.py` says nothing and may."""
    return [module.name for module in _written_by_hand(root) if module.text.strip() and not _opens_with_a_sentence(module)]


def too_long(root: Path) -> list[str]:
    return [found for module in _written_by_hand(root) for found in _too_long(module)]


def _written_by_hand(root: Path) -> Iterator[Module]:
    """Migrations are written by Tortoise from the models, and are as long as the tables are wide."""
    return (module for module in modules(root) if module.room != "migrations")


def _opens_with_a_sentence(module: Module) -> bool:
    first = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    return len(first.split()) >= 3


def _too_long(module: Module) -> Iterator[str]:
    length = len(module.text.splitlines())
    if length > MODULE_LINES:
        yield f"{module.name} has {length} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size, limit = _size(node), FUNCTION_LINES
            if module.room == "resolvers":
                size, limit = _body_size(node), DOOR_LINES
            if size > limit:
                yield f"{module.name}:{node.lineno} {node.name} has {size} lines"


def _size(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _body_size(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the statements: a docstring, comments, blank lines and the arguments are free."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return len({line for statement in body for line in _code_lines(statement)})


def _code_lines(statement: ast.stmt) -> Iterator[int]:
    for node in ast.walk(statement):
        if isinstance(node, ast.expr | ast.stmt | ast.arg | ast.keyword | ast.excepthandler):
            yield node.lineno
            yield node.end_lineno or node.lineno


def test_every_module_opens_with_a_sentence() -> None:
    assert headless(ROOT) == []


def test_no_module_and_no_function_is_longer_than_the_eye() -> None:
    assert too_long(ROOT) == []


def test_a_module_without_a_sentence_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/__init__.py": "",
            "fleet/locking.py": "x = 1\n",
            "fleet/scope.py": '"""Scope."""\n',
            "fleet/good.py": '"""What a good module does."""\n',
        },
    )

    assert headless(tmp_path) == ["fleet/locking.py", "fleet/scope.py"]


def test_one_line_too_many_is_found(tmp_path: Path) -> None:
    body = '    """Free."""\n\n    # free\n' + "    x = (\n        1\n    )\n" * 2 + "    y = 2\n"
    plant(
        tmp_path,
        {
            "fleet/at_the_limit.py": "def f():\n" + "    x = 1\n" * 49 + "x = 1\n" * 350,
            "fleet/module.py": "x = 1\n" * 401,
            "fleet/function.py": "async def f():\n" + "    x = 1\n" * 50,
            "resolvers/at_the_limit.py": "def f(\n    a,\n):\n" + body + "    return y\n",
            "resolvers/door.py": "class A:\n    async def f(self):\n" + "        x = 1\n" * 9,
            "migrations/first.py": "x = 1\n" * 999,
        },
    )

    assert too_long(tmp_path) == [
        "fleet/function.py:1 f has 51 lines",
        "fleet/module.py has 401 lines",
        "resolvers/door.py:2 f has 9 lines",
    ]


def test_the_product_alone_is_a_part_of_what_is_read(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/locking.py": "",
            "tests/test_a.py": "",
            ".venv/site.py": "",
            "tests/npm/node_modules/gyp.py": "",
        },
    )

    assert [module.name for module in modules(tmp_path)] == ["fleet/locking.py", "tests/test_a.py"]
    assert [module.name for module in in_rooms(tmp_path)] == ["fleet/locking.py"]
