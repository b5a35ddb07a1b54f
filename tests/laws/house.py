"""The house as the laws see it: the order of its rooms, and every module of ours with its syntax tree."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A module imports only from lines below its own; rooms on one line do not know each other.
ORDER = (
    ("cli",),
    ("app",),
    ("worker",),
    ("transport", "simulator"),
    ("schema",),
    ("resolvers", "gateway"),
    ("fleet",),
    ("billing",),
    ("auth",),
    ("realtime",),
    ("models",),
    ("mailer", "blobs", "firmware_formats", "migrations"),  # a migration holds no live model: it may know none
    ("errors", "settings", "public_keys"),
)
LINE = {room: line for line, rooms in enumerate(ORDER) for room in rooms}
ROOMS = tuple(LINE)
# Python that is no room of the product: it may import any room, no room may import it.
OUTSIDE = ("tests", "bench", "docs", "deploy", "examples")
NEVER_READ = ("node_modules", "__pycache__", "var", "build")


@dataclass(frozen=True)
class Module:
    """One Python file; `name` is its path inside the project, `room` the first word of it."""

    path: Path
    name: str

    @property
    def room(self) -> str:
        return self.name.split("/")[0].removesuffix(".py")

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)


def modules(root: Path) -> Iterator[Module]:
    """Every Python file of ours below `root`, in order; hidden folders, caches and what was installed are not ours."""
    for path in sorted(root.rglob("*.py")):
        folders = path.relative_to(root).parts[:-1]
        if not any(folder.startswith(".") or folder in NEVER_READ for folder in folders):
            yield Module(path, path.relative_to(root).as_posix())


def in_rooms(root: Path) -> Iterator[Module]:
    """The modules of the product alone."""
    return (module for module in modules(root) if module.room not in OUTSIDE)


def plant(root: Path, files: Mapping[str, str]) -> None:
    """Write the files of a house below `root`, for a law to be tried on."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
