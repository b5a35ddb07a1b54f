"""Drafting a migration: what Tortoise would guess or import is refused, what it writes stands on its own."""

import importlib
import sys
from pathlib import Path

import pytest

from models.drafting import DraftRefused, make

BEFORE = """
from tortoise import fields
from tortoise.models import Model
class Thing(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(40)
    extra = fields.JSONField(default=dict)
    class Meta:
        table = "thing"
class Wing(Model):
    'What a thing flies with.'
    thing = fields.OneToOneField("models.Thing", primary_key=True)
    class Meta:
        table = "wing"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / f"drafted_{tmp_path.name}"
    (folder / "steps").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "steps" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


async def draft(package: Path, tables: str, title: str) -> Path | None:
    (package / f"tables_{len(list(package.iterdir()))}.py").write_text(tables)
    module = f"{package.name}.{max(package.glob('tables_*.py'), key=lambda path: path.stat().st_mtime_ns).stem}"
    sys.modules.pop(module, None)
    importlib.invalidate_caches()
    return await make(title, models=(module,), migrations=f"{package.name}.steps")


async def test_a_file_is_named_and_opened_by_its_title_and_imports_nothing_of_ours(package: Path) -> None:
    path = await draft(package, BEFORE, "Things and their names.")

    assert path is not None and path.name == "0001_things_and_their_names.py"
    text = path.read_text()
    assert text.startswith('"""Things and their names."""\n')
    assert {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))} == {"tortoise"}
    assert "('extra', fields.JSONField())" in text


async def test_nothing_is_written_when_nothing_changed(package: Path) -> None:
    await draft(package, BEFORE, "Things")

    assert await draft(package, BEFORE, "Again") is None
    assert await draft(package, BEFORE.replace("flies", "soars"), "Other words") is None
    assert len(list((package / "steps").glob("0*.py"))) == 1


async def test_a_rename_is_never_guessed(package: Path) -> None:
    """500 values went to a wrong column: a column that goes and one that comes need not be the same."""
    await draft(package, BEFORE, "Things")

    with pytest.raises(DraftRefused, match="name → title of Thing looks like a rename"):
        await draft(package, BEFORE.replace("name = ", "title = "), "Titles")

    assert len(list((package / "steps").glob("0*.py"))) == 1


async def test_a_live_enum_never_gets_into_a_file(package: Path) -> None:
    tables = BEFORE.replace("class Thing", "from enum import StrEnum\nclass Mood(StrEnum):\n    CALM = 'CALM'\nclass Thing")

    with pytest.raises(DraftRefused, match="Column name is an enum field"):
        await draft(package, tables.replace("fields.CharField(40)", "fields.CharEnumField(Mood)"), "Moods")
    path = await draft(package, tables.replace("CharField(40)", "CharField(40, default=Mood.CALM)"), "Moods")

    assert path is not None and "Mood" not in path.read_text().replace("Moods", "")
    assert "fields.CharField(default='CALM', max_length=40)" in path.read_text()
