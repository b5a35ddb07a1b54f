"""A migration step in SQL of our own, one text per database, for what Tortoise's operations cannot say or get wrong."""

from collections.abc import Sequence

from tortoise.migrations.operations import TortoiseOperation
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State


class InSql(TortoiseOperation):
    """Statements, run one by one: a trigger is one statement, whatever stands in it.

    `instead_of` is the operation whose place this takes: the tables as Tortoise remembers them change as if it had run.
    Without the `back_` texts the migration cannot be undone.
    """

    def __init__(
        self,
        *,
        sqlite: Sequence[str],
        postgres: Sequence[str],
        back_sqlite: Sequence[str] | None = None,
        back_postgres: Sequence[str] | None = None,
        instead_of: TortoiseOperation | None = None,
    ) -> None:
        self._forward = {"sqlite": sqlite, "postgres": postgres}
        self._backward = {"sqlite": back_sqlite, "postgres": back_postgres}
        self._instead_of = instead_of
        self.reversible = back_sqlite is not None and back_postgres is not None

    def describe(self) -> str:
        return f"In SQL: {self._instead_of.describe()}" if self._instead_of else "In SQL"

    def state_forward(self, app_label: str, state: State) -> None:
        if self._instead_of is not None:
            self._instead_of.state_forward(app_label, state)

    async def database_forward(
        self, app_label: str, old_state: State, new_state: State, state_editor: BaseSchemaEditor | None = None
    ) -> None:
        if state_editor is not None:
            await _run(state_editor, self._forward[state_editor.DIALECT])

    async def database_backward(
        self, app_label: str, old_state: State, new_state: State, state_editor: BaseSchemaEditor | None = None
    ) -> None:
        if state_editor is not None:
            await _run(state_editor, self._backward[state_editor.DIALECT] or ())


async def _run(editor: BaseSchemaEditor, texts: Sequence[str]) -> None:
    for text in texts:
        await editor.client.execute_query(text)
