"""The law of acts: whoever asks whether somebody may act on a product says on which, for a role may be one product's alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

from auth.viewer import MAY
from tests.laws.house import ROOT, Module, in_rooms, plant

ASKED = ("may", "must", "must_be_allowed")


def without_product(root: Path) -> list[str]:
    """Where an act on a product is asked for without one, or an act that can only be known when it runs."""
    return [f"{module.name}:{call.lineno} asks for {_act(call) or 'an act'} without its product" for module, call in _asking(root)]


def _asking(root: Path) -> Iterator[tuple[Module, ast.Call]]:
    for module in in_rooms(root):
        calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))
        for call in calls:
            asks = isinstance(call.func, ast.Attribute) and call.func.attr in ASKED
            if asks and not _is_about_the_team(call) and not _names_a_product(call):
                yield module, call


def _act(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _is_about_the_team(call: ast.Call) -> bool:
    acts = [each.value for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return bool(acts) and all(act in MAY and MAY[act].team for act in acts)


def _names_a_product(call: ast.Call) -> bool:
    return len(call.args) == 3 and not (isinstance(call.args[2], ast.Constant) and call.args[2].value is None)


def idle(root: Path) -> list[str]:
    """Rows of the table that no verb or door asks for."""
    words = {
        node.value
        for module in in_rooms(root)
        if module.name != "auth/viewer.py"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return sorted(MAY.keys() - words)


def test_whoever_asks_for_an_act_on_a_product_names_the_product() -> None:
    assert without_product(ROOT) == []


def test_every_act_of_the_table_is_asked_for_somewhere() -> None:
    assert idle(ROOT) == []


# ── the law bites ──
def test_an_act_without_its_product_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "fleet/a.py": 'by.must("device.update", team.id)\nby.must("device.update", team.id, None)\nby.may(action, team.id)\n',
            "fleet/b.py": 'by.must("member.write", team.id)\nby.must("device.update", team.id, product.id)\nby.may(action, team.id, product.id)\n'
            'by.must("organization.leave" if leaves else "member.write", team.id)\nby.must("no.such_act", team.id)\n',
        },
    )

    assert without_product(tmp_path) == [
        "fleet/a.py:1 asks for device.update without its product",
        "fleet/a.py:2 asks for device.update without its product",
        "fleet/a.py:3 asks for an act without its product",
        "fleet/b.py:5 asks for no.such_act without its product",
    ]
