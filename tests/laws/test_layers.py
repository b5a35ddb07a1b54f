"""The law of the rooms: imports go down the one order line, late imports included."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.laws.house import LINE, OUTSIDE, ROOT, Module, in_rooms, plant

LATE = ("__import__", "import_module", "import_string")


def strangers(root: Path) -> list[str]:
    """Python files at the top level, and folders that hold some, which are no room of ours."""
    return sorted({module.room for module in in_rooms(root) if module.room not in LINE})


def upward_imports(root: Path) -> list[str]:
    return [found for module in in_rooms(root) if module.room in LINE for found in _upward(module)]


def _upward(module: Module) -> Iterator[str]:
    for line, room in _imported_rooms(module):
        if room == module.room:
            continue
        if room in OUTSIDE or (room in LINE and LINE[room] <= LINE[module.room]):
            yield f"{module.name}:{line} imports {room}"


def _imported_rooms(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name.split(".")[0]) for alias in names)
            case ast.ImportFrom(module=name, level=0) if name:
                yield node.lineno, name.split(".")[0]
            case ast.ImportFrom(level=level, module=name, names=names) if level:
                yield from ((node.lineno, room) for room in _relative(module, level, name, names))
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]) if (
                called in LATE
            ):
                yield node.lineno, name.split(".")[0]


def _relative(module: Module, level: int, name: str | None, names: list[ast.alias]) -> Iterator[str]:
    """Where `from ..auth import x` leads: only climbing out of the room is of interest."""
    folders = module.name.split("/")[:-1]
    if level <= len(folders):
        yield module.room
    elif name:
        yield name.split(".")[0]
    else:
        yield from (alias.name for alias in names)


def test_every_module_at_the_top_level_is_in_the_order_of_rooms() -> None:
    assert strangers(ROOT) == []


def test_imports_only_go_down() -> None:
    assert upward_imports(ROOT) == []


def test_a_room_that_nobody_drew_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "helpers/text.py": "",
            "shop.py": "",
            "fleet/locking.py": "",
            "tests/test_shop.py": "",
        },
    )

    assert strangers(tmp_path) == ["helpers", "shop"]


def test_imports_that_go_up_or_sideways_are_found_wherever_they_hide(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/locking.py": "import errors\nfrom models import device\n",
            "models/device.py": "from fleet import locking\n",
            "models/job.py": "def f():\n    import fleet.locking as l\n    return l\n",
            "models/log.py": "if TYPE_CHECKING:\n    from auth.viewer import Viewer\n",
            "realtime/log.py": 'import importlib\nimportlib.import_module("schema.query")\n',
            "auth/deep/viewer.py": "from ...fleet import locking\nfrom .. import other\n",
            "gateway/server.py": "import resolvers.context\n",
            "errors.py": "import settings\n",
            "billing/seats.py": "from tests.servers import free_port\n",
            "bench/load.py": "import app\n",
        },
    )

    assert upward_imports(tmp_path) == [
        "auth/deep/viewer.py:1 imports fleet",
        "billing/seats.py:1 imports tests",
        "errors.py:1 imports settings",
        "gateway/server.py:1 imports resolvers",
        "models/device.py:1 imports fleet",
        "models/job.py:2 imports fleet",
        "models/log.py:2 imports auth",
        "realtime/log.py:2 imports schema",
    ]


def test_a_room_may_import_itself_and_everything_below(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/locking.py": "from fleet import scope\nimport auth.viewer\nfrom . import auditing\nimport tortoise\n",
            "auth/viewer.py": "",
            "worker.py": "import fleet\n",
        },
    )

    assert upward_imports(tmp_path) == []
