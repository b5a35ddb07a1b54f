"""The law of writes: only the verbs, and the rooms they are built on, change what is stored."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.laws.house import ROOT, Module, in_rooms, plant

WRITES = {
    "save",
    "create",
    "update",
    "delete",
    "bulk_create",
    "bulk_update",
    "get_or_create",
    "update_or_create",
    "execute_query",
    "execute_query_dict",
    "execute_insert",
    "execute_many",
    "execute_script",
}
TAKE_NO_POSITION = {"update", "delete"}  # the ORM's; a dict's, a hash's and a blob store's do
WRITERS = {"fleet", "billing", "auth", "realtime", "models", "migrations"}


def forbidden_writes(root: Path) -> list[str]:
    return [found for module in in_rooms(root) if module.room not in WRITERS for found in _writes(module)]


def _writes(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=args) if name in WRITES and not (args and name in TAKE_NO_POSITION):
                yield f"{module.name}:{node.lineno} .{name}("


def test_only_verbs_and_what_they_stand_on_write() -> None:
    assert forbidden_writes(ROOT) == []


def test_a_write_in_a_door_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "resolvers/device.py": "async def f(device):\n    await device.save()\n    await Device.filter(id=1).update(name='x')\n",
            "schema/query.py": "Device.create(id=1)\n",
            "cli.py": "connection.execute_query('DELETE FROM device')\n",
            "blobs.py": "digest.update(piece)\nstore.delete(key)\n",
            "fleet/locking.py": "device.save()\n",
            "tests/test_device.py": "device.save()\n",
        },
    )

    assert forbidden_writes(tmp_path) == [
        "cli.py:1 .execute_query(",
        "resolvers/device.py:2 .save(",
        "resolvers/device.py:3 .update(",
        "schema/query.py:1 .create(",
    ]
