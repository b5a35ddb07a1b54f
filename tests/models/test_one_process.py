"""One process per data folder: the second is told which one is the first, and death releases it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.one_process import DataFolderTaken, only_process, turn

ROOT = Path(__file__).parents[2]

HOLD = """
import sys
from pathlib import Path
from models.one_process import only_process
with only_process(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(data_dir: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data_dir)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    holder = hold(tmp_path)

    expected = f"is in use by process {holder.pid}. Stop it, choose another FLOTILLA_DATA_DIR"
    with pytest.raises(DataFolderTaken, match=expected), only_process(tmp_path):
        pass

    holder.communicate("")
    with only_process(tmp_path):
        pass


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path) -> None:
    holder = hold(tmp_path)

    holder.kill()
    holder.communicate()

    with only_process(tmp_path):
        assert (tmp_path / "flotilla.lock").read_text() == str(os.getpid())


def test_a_second_server_in_the_same_process_is_refused_and_takes_nothing_from_the_first(tmp_path: Path) -> None:
    with only_process(tmp_path):
        with pytest.raises(DataFolderTaken, match=f"process {os.getpid()}"), only_process(tmp_path):
            pass

        assert (tmp_path / "flotilla.lock").read_text() == str(os.getpid())
    with only_process(tmp_path):
        pass


async def test_a_command_waits_its_turn_and_then_gives_up(tmp_path: Path) -> None:
    holder = hold(tmp_path)

    with pytest.raises(DataFolderTaken, match=str(holder.pid)):
        async with turn(tmp_path, wait_s=0.1):
            pass

    holder.communicate("")
    async with turn(tmp_path, wait_s=5):
        with pytest.raises(DataFolderTaken), only_process(tmp_path):
            pass
