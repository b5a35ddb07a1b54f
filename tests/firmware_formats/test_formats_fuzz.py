"""Whatever the bytes, every reader of the other formats answers or refuses in its own words, and soon."""

import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BinaryInvalid, BinaryMismatch
from firmware_formats import bundle, esp32, fwup, mcuboot
from firmware_formats.gate import judge
from firmware_formats.platforms import Platform
from firmware_formats.unreadable import Unreadable
from tests.firmware_formats import images, maker
from tests.processes import ROOT

REASONS = {"TOO_LARGE", "NOT_A_MODULE", "UNSUPPORTED", "BAD_LENGTH", "BAD_CRC", "BAD_DIGEST"}
READERS: list[Callable[[bytes], object]] = [bundle.read, esp32.read, fwup.read, mcuboot.read]
SHAPES = [
    images.esp32(segments=(b"code",)),
    images.with_sector(images.esp32(digest=False)),
    images.mcuboot(code=b"code"),
    images.mcuboot(code=b"code", vendor=None, behind=images.record(0x24, bytes(64))),
    images.fwup({"a": b"one"}),
    images.bundle({"a": b"one"}, application=maker.sound(size=40)),
]
edits = st.lists(st.tuples(st.integers(-300, 600), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6)
MIB = 1 << 20


def answer(read: Callable[[bytes], object], content: bytes) -> str | None:
    """The reason of the refusal, None if it was read; anything else is a failure of the test."""
    try:
        read(content)
    except Unreadable as refusal:
        assert refusal.reason in REASONS
        return refusal.reason
    return None


def edited(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, value in changes:
        content = maker.changed(content, at, value)[: len(content)]
    return content


@settings(max_examples=200, deadline=30_000)
@given(st.sampled_from([b"", b"PK\x03\x04", b"\xe9", struct.pack("<I", 0x96F3B83D)]), st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused_in_the_readers_own_words(magic: bytes, content: bytes) -> None:
    assert all(answer(read, magic + content) in REASONS for read in READERS)


@settings(max_examples=300, deadline=30_000)
@given(st.sampled_from(SHAPES), edits)
def test_a_damaged_file_is_read_or_refused_by_every_reader(shape: bytes, changes: list[tuple[int, bytes]]) -> None:
    damaged = edited(shape, changes)

    assert {answer(read, damaged) for read in READERS} <= REASONS | {None}


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) < 2000])
def test_a_file_cut_anywhere_is_refused_by_every_reader(shape: bytes) -> None:
    for size in range(len(shape)):
        assert all(answer(read, shape[:size]) in REASONS for read in READERS)


@settings(max_examples=200, deadline=30_000)
@given(st.binary(max_size=40))
def test_a_meta_conf_of_any_bytes_is_read_or_refused(content: bytes) -> None:
    assert answer(fwup.read, images.zipped({"meta.conf": b'meta-version="' + content + b'"'})) in {None, "NOT_A_MODULE", "BAD_LENGTH"}


@settings(max_examples=200, deadline=30_000)
@given(st.text(alphabet="abmeta-version=+(){},\"'#/*\\ \n", max_size=200))
def test_any_meta_conf_is_read_or_refused(text: str) -> None:
    assert answer(fwup.read, images.zipped({"meta.conf": text.encode()})) in {None, "NOT_A_MODULE", "BAD_LENGTH"}


@settings(max_examples=200, deadline=30_000)
@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 70), st.binary(max_size=40)), max_size=6), st.booleans())
def test_any_records_behind_an_mcuboot_image_are_read_or_refused(records: list[tuple[int, int, bytes]], protected: bool) -> None:
    body = b"".join(struct.pack("<HH", kind, size) + data for kind, size, data in records)
    image = images.mcuboot(protected=images.area(0x6908, body)) if protected else images.mcuboot(behind=body)

    assert answer(mcuboot.read, image) in {None, "NOT_A_MODULE", "UNSUPPORTED"}


@settings(max_examples=300, deadline=30_000)
@given(st.sampled_from(SHAPES), edits, st.sampled_from(Platform), st.none() | st.integers(1, 65534))
def test_the_gate_answers_with_a_verdict_or_one_of_its_two_errors(
    shape: bytes, changes: list[tuple[int, bytes]], platform: Platform, version: int | None
) -> None:
    try:
        verdict = judge(edited(shape, changes), platform=platform, product_id=1000, slug="lamp", version=version, allow_generic=False)
        assert version is None or verdict.version == version
    except (BinaryInvalid, BinaryMismatch) as refusal:
        assert refusal.reason is not None


NOISE = random.Random(1).randbytes(16 * MIB)
ROOM = NOISE[: 16 * MIB - 8192]
# Files of 16 MiB that make each reader work as long as it can be made to, or are nothing at all; each is made when it is needed.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "noise": lambda: NOISE,
    "a zip of noise": lambda: b"PK\x03\x04" + NOISE[:-4],
    "a long ESP32 image": lambda: images.esp32(segments=(bytes(15 * MIB),)),
    "a long MCUboot image": lambda: images.mcuboot(code=ROOM),
    "an MCUboot image of tiny records": lambda: images.mcuboot(behind=images.record(1, b"") * 16000) + b"\xff" * (15 * MIB),
    "a long fwup archive": lambda: images.fwup({"rootfs.img": ROOM}),
    "a fwup archive that unpacks to much": lambda: images.fwup({"rootfs.img": bytes(100 * MIB)}),
    "a meta.conf of comments": lambda: images.zipped({"meta.conf": b"/*" * (1 << 17)}),
    "a meta.conf of words": lambda: images.zipped({"meta.conf": b"a " * (1 << 17)}),
    "a meta.conf of braces": lambda: images.zipped({"meta.conf": b"{" * (1 << 18)}),
    "a long bundle": lambda: images.bundle({"noise": ROOM[: 15 * MIB]}),
    "a bomb": lambda: images.bundle({"bomb": bytes(128 * MIB)}),
    "a comment of ends": lambda: images.bundle() + b"PK\x05\x06" * 4_000_000,
}


PLATFORM = {"ESP32": "ESP32", "MCUboot": "MCUBOOT"}  # whose reader goes through all of it


# A process of its own, as a server's: the file is its last argument but those that name platforms.
JUDGING = """
import re, resource, sys
from pathlib import Path
from errors import BinaryInvalid, BinaryMismatch
from firmware_formats.gate import judge
content = Path(sys.argv[1]).read_bytes()
for platform in sys.argv[2:]:
    try:
        judge(content, platform=platform, product_id=1000, slug="lamp", version=7, allow_generic=False)
        print(platform, "taken")
    except (BinaryInvalid, BinaryMismatch) as refusal:
        print(platform, refusal.reason)
# Of this process alone, where the system says so: what getrusage says begins with the peak of the process that started it.
status = Path("/proc/self/status")
peak = re.search(r"VmHWM:\\s+(\\d+)", status.read_text()) if status.exists() else None
print(peak[1] if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_process_judges_sixteen_mib_within_20_seconds_and_300_mib(name: str, tmp_path: Path) -> None:
    file, platforms = tmp_path / "upload", ["P2", "OTHER", *(PLATFORM[word] for word in name.split() if word in PLATFORM)]
    file.write_bytes(HOSTILE[name]())

    done = subprocess.run(
        [sys.executable, "-c", JUDGING, str(file), *platforms],
        cwd=ROOT, capture_output=True, text=True, timeout=280, preexec_fn=_within_limits,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    *said, peak_kib = done.stdout.split("\n")[:-1]
    print(f"{name}: {', '.join(said)}; {int(peak_kib) / 1024:.0f} MiB")
    assert [line.split()[0] for line in said] == platforms
    assert int(peak_kib) * 1024 <= 300 * MIB


def _within_limits() -> None:
    """The kernel ends a process that computes for more than 20 s, and gives none more than 300 MiB."""
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    resource.setrlimit(resource.RLIMIT_DATA, (300 * MIB, 300 * MIB))


def test_the_limits_end_what_goes_beyond_them() -> None:
    greedy = [sys.executable, "-c", "bytes(300 << 20)"]

    assert b"MemoryError" in subprocess.run(greedy, capture_output=True, preexec_fn=_within_limits).stderr
