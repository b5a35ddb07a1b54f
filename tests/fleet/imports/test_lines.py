"""The lines of an import file: whatever is in it, exactly, in bounded memory."""

import random
import tracemalloc
from pathlib import Path

import pytest

from fleet.imports import lines as import_lines
from fleet.imports.lines import FirstSeen, count_lines, device_ids, read_stretch, shown

ID = b"55ff6d04498b49aabbccdd01"


def all_lines(path: Path, limit: int) -> tuple[list[bytes], int]:
    lines: list[bytes] = []
    stretch = import_lines.Stretch([], 0, ended=False)
    while not stretch.ended:
        stretch = read_stretch(path, stretch.next_offset, limit)
        assert len(stretch.lines) <= limit
        lines += stretch.lines
    return lines, stretch.next_offset


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_any_line_ending_in_any_place_gives_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(import_lines, "BLOCK_BYTES", block)
    chance, path = random.Random(block), tmp_path / "ids.txt"
    for _ in range(60):
        lines = [chance.choice([b"", b" ", b"abc", ID, b"\x00\xff", b"x" * 30]) for _ in range(chance.randrange(30))]
        text = b"".join(line + chance.choice([b"\n", b"\r\n", b"\r"]) for line in lines) + chance.choice([b"", b"end"])
        bom = chance.choice([b"", b"\xef\xbb\xbf"])
        path.write_bytes(bom + text)

        for limit in (1, 2, 100):
            assert all_lines(path, limit) == (text.splitlines(), len(bom + text))


def test_a_line_of_ten_megabytes_is_one_invalid_line_and_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    with path.open("wb") as file:
        file.write(ID + b"\n")
        for _ in range(160):
            file.write(b"x" * 65536)
        file.write(b"\r\n" + ID + b"\n")

    tracemalloc.start()
    stretch = read_stretch(path, 0, 10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert device_ids(stretch.lines) == [ID.decode(), None, ID.decode()]
    assert shown(stretch.lines[1]) == "x" * 100
    assert (stretch.next_offset, stretch.ended) == (path.stat().st_size, True)
    assert peak < 4 << 20


@pytest.mark.parametrize("filler", [b" " * 600 + b"junk", b" " * 600_000 + b"junk", b"0" * 400])
def test_an_id_with_something_far_behind_it_is_none(tmp_path: Path, filler: bytes) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(ID + filler + b"\n")

    assert device_ids(read_stretch(path, 0, 10).lines) == [None]


@pytest.mark.parametrize(
    "line", [b"\x00" * 24, b"\x00" + ID, ID + b"0", ID[:-1] + b"g", b"\xff\xfe5\x00", "５".encode() * 24, ID + b" " + ID]
)
def test_what_is_no_id_is_invalid_and_never_an_error(line: bytes) -> None:
    assert device_ids([line]) == [None]
    assert shown(line) == line.decode(errors="replace")[:100]


def test_case_and_blanks_do_not_matter_and_blank_lines_are_told_apart() -> None:
    assert device_ids([ID.upper(), b" \t" + ID + b"  ", b"", b" \t ", "\u00a0".encode() + ID]) == [
        ID.decode(),
        ID.decode(),
        "",
        "",
        ID.decode(),
    ]
    assert device_ids([ID, ID.upper()]) == [ID.decode()] * 2


def test_only_lines_that_are_not_blank_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\n\na\n \r\nb\rc")

    assert count_lines(path) == 3


@pytest.mark.parametrize("slots", [4, 1 << 26])
def test_the_first_line_of_an_id_is_told_exactly_even_when_slots_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    monkeypatch.setattr(import_lines, "SLOTS_MAX", slots)
    monkeypatch.setattr(import_lines, "SURVEY_LINES", 7)
    chance, path = random.Random(1), tmp_path / "ids.txt"
    ids = [f"{chance.randrange(60):024x}" for _ in range(100)]
    path.write_text("\n".join(ids))
    expected = [each not in ids[:place] for place, each in enumerate(ids)]

    assert FirstSeen(path, 100, 0).firsts([*ids]) == expected
    assert FirstSeen(path, 100, 33).firsts([*ids[33:]]) == expected[33:]
