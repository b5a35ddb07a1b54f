"""Writing the next migration from the difference between the classes and the files, without guesses and without live imports."""

import asyncio
import copy
import importlib
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from tortoise.context import TortoiseContext
from tortoise.fields import JSONField
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.operations import RenameField, RenameModel
from tortoise.migrations.schema_generator.state import State
from tortoise.migrations.writer import MigrationWriter, slugify_migration_name

from models.database import MODEL_MODULES, tortoise_config
from models.migrating import APP, MIGRATIONS
from settings import Settings

LINT = "# ruff: noqa: N999, RUF012 - Tortoise's form: the number first, plain lists on the class."


class DraftRefused(Exception):
    """The file would guess or would not stand on its own; the message says what to write by hand."""


async def make(title: str, *, models: Sequence[str] = MODEL_MODULES, migrations: str = MIGRATIONS) -> Path | None:
    """Write the next migration file, named after and opening with `title`; None if the tables are as the files say.

    Needs no database. Raises DraftRefused where Tortoise would guess a rename, or would import our modules into the file.
    """
    importlib.invalidate_caches()  # a file made a moment ago
    writer = await _difference(models, migrations)
    if writer is None:
        return None
    _refuse_guesses(writer)
    number = writer.name.partition("_")[0]
    writer.name = f"{number}_{slugify_migration_name(title)}"
    text = f'"""{title.rstrip(".")}."""\n\n{LINT}\n{writer.as_string()}'
    _refuse_imports(text)
    path = writer.path()
    path.write_text(text, encoding="utf-8")
    return path


async def _difference(models: Sequence[str], migrations: str) -> MigrationWriter | None:
    context = TortoiseContext()
    with context:
        await context.init(config=tortoise_config(Settings(), models), init_connections=False)
        assert context.apps is not None
        apps = {APP: {"models": list(models), "migrations": migrations, "default_connection": "default"}}
        writers = await _Detector(context.apps, apps).changes()
    return writers[0] if writers else None


class _Detector(MigrationAutodetector):
    """Tortoise's, comparing tables only: what a class or a column means in Python does not belong into a migration."""

    def _current_state(self) -> State:
        state = _without_words(super()._current_state())
        for model in state.models.values():
            model.fields = {name: _plain(name, field) for name, field in model.fields.items()}
        return state

    async def _project_state(self) -> State:
        return _without_words(await super()._project_state())


def _without_words(state: State) -> State:
    """Drop the docstring, and the name of the key, which differs each time where the key is a foreign one."""
    for model in state.models.values():
        model.options = {name: value for name, value in model.options.items() if name not in ("table_description", "pk_attr")}
    return state


def _plain(name: str, field: Any) -> Any:
    if hasattr(field, "enum_type"):
        raise DraftRefused(f"Column {name} is an enum field: its file would import the live enum. Make it a CharField.")
    plain = copy.copy(field)
    if isinstance(plain.default, Enum):
        plain.default = plain.default.value
    elif callable(plain.default):
        plain.default = None
    if isinstance(plain, JSONField):
        del plain.encoder, plain.decoder  # written out they are imports of whichever JSON library is installed here
    return plain


def _refuse_guesses(writer: MigrationWriter) -> None:
    for operation in writer.operations:
        if isinstance(operation, RenameField | RenameModel):
            where = f" of {operation.model_name}" if isinstance(operation, RenameField) else ""
            raise DraftRefused(
                f"{operation.old_name} → {operation.new_name}{where} looks like a rename, and may be two different things. Write this "
                "migration by hand: a rename, or an AddField and a RemoveField."
            )


def _refuse_imports(text: str) -> None:
    for line in text.splitlines():
        if line.startswith(("import ", "from ")):
            package = line.split()[1].partition(".")[0]
            if package != "tortoise" and package not in sys.stdlib_module_names:
                raise DraftRefused(f"The migration would say `{line}` and change whenever that does. Write its values out by hand.")


if __name__ == "__main__":  # python -m models.drafting "The battery of a device"
    print(asyncio.run(make(" ".join(sys.argv[1:]))) or "Nothing to write: the files already say what the classes say.")
