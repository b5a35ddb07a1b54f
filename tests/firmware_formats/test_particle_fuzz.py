"""Whatever the bytes, the reader answers or refuses in its own words, and soon."""

import random
import struct
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from errors import BinaryInvalid, BinaryMismatch
from firmware_formats.building import seal
from firmware_formats.detect import Kind, kind_of
from firmware_formats.gate import judge
from firmware_formats.particle import Module, read
from firmware_formats.platforms import Platform
from firmware_formats.unreadable import Unreadable
from tests.firmware_formats import maker

REASONS = {"TOO_LARGE", "NOT_A_MODULE", "UNSUPPORTED", "BAD_LENGTH", "BAD_CRC", "BAD_DIGEST"}
SHAPES = [
    maker.sound(size=40),
    maker.sound(size=40, suffix_bytes=62),
    maker.sound(size=40, suffix_bytes=36),
    maker.sound(size=40, vector_table=0xC0),
    maker.sound(size=200, compressed=True),
    maker.with_prefix_extensions(b"\x11\0\x07\0app" + maker.END),
    maker.with_suffix(b"\x11\0\x07\0app" + maker.END + b"\xe8\x03\x07\0"),
    maker.zipped("application.bin", "assets/a"),
]
edits = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6)


def answer(content: bytes) -> Module | str:
    """The module, or the reason of the refusal; anything else is a failure of the test."""
    try:
        return read(content, unpacked_max=1 << 20)
    except Unreadable as refusal:
        assert refusal.reason in REASONS
        return refusal.reason


@settings(max_examples=300, deadline=30_000)
@given(st.binary(max_size=3000))
def test_arbitrary_bytes_are_refused_in_the_readers_own_words(content: bytes) -> None:
    assert answer(content) in REASONS


@settings(max_examples=400, deadline=30_000)
@given(st.sampled_from(SHAPES), edits)
def test_a_damaged_module_is_refused_unless_the_damage_changed_nothing(shape: bytes, changes: list[tuple[int, bytes]]) -> None:
    damaged = shape
    for at, value in changes:
        damaged = maker.changed(damaged, at, value)[: len(shape)]

    assert (answer(damaged) in REASONS) or damaged == shape


@settings(max_examples=400, deadline=30_000)
@given(st.sampled_from(SHAPES[:3] + SHAPES[4:7]), edits)
def test_a_module_changed_and_sealed_again_never_breaks_the_reader(shape: bytes, changes: list[tuple[int, bytes]]) -> None:
    changed = shape
    for at, value in changes:
        changed = maker.changed(changed, at, value)[: len(shape)]

    said = answer(seal(changed))

    assert isinstance(said, str) or said.size == len(shape)


@settings(max_examples=300, deadline=30_000)
@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 64), st.binary(max_size=40)), max_size=8), st.binary(max_size=12))
def test_any_extensions_are_read_or_refused(extensions: list[tuple[int, int, bytes]], tail: bytes) -> None:
    area = b"".join(struct.pack("<HH", kind, length) + data for kind, length, data in extensions) + tail

    for binary in (maker.with_suffix(area), maker.with_prefix_extensions(area)):
        said = answer(binary)
        assert isinstance(said, Module) or said in {"NOT_A_MODULE", "BAD_LENGTH"}


@settings(max_examples=200, deadline=30_000)
@given(st.sampled_from(SHAPES), edits, st.sampled_from(Platform), st.booleans(), st.none() | st.integers(1, 65534))
def test_the_gate_answers_with_a_verdict_or_one_of_its_two_errors(
    shape: bytes, changes: list[tuple[int, bytes]], platform: Platform, allow_generic: bool, version: int | None
) -> None:
    content = shape
    for at, value in changes:
        content = maker.changed(content, at, value)

    try:
        verdict = judge(content, platform=platform, product_id=1000, slug="lamp", version=version, allow_generic=allow_generic)
        assert version is None or verdict.version == version
    except (BinaryInvalid, BinaryMismatch) as refusal:
        assert refusal.reason is not None


def test_16_mib_of_noise_are_refused_at_once() -> None:
    """The search for a prefix ends after 8 KiB, whatever follows."""
    noise = random.Random(1).randbytes(16 << 20)

    began = time.process_time()
    kind, said = kind_of(noise), answer(noise)
    took_s = time.process_time() - began

    assert (kind, said) == (Kind.OPAQUE, "NOT_A_MODULE")
    assert took_s < 5


def test_the_longest_chains_of_extensions_are_not_walked_to_their_end() -> None:
    """Four-byte extensions all through the largest suffix, and through 16 MiB of prefix."""
    shortest = struct.pack("<HH", 0x11, 4)
    suffix, prefix = maker.with_suffix(shortest * 16000), maker.with_prefix_extensions(shortest * 1_000_000)

    began = time.process_time()
    said = answer(suffix), answer(prefix)
    took_s = time.process_time() - began

    assert said == ("NOT_A_MODULE", "NOT_A_MODULE")
    assert took_s < 5
