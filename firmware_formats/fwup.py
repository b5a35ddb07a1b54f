"""Reads a fwup archive: what its meta.conf says, and whether every resource in it has the hash that stands there."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from firmware_formats.archive import Archive
from firmware_formats.content import Content
from firmware_formats.platforms import DEFAULT_MAX_BYTES
from firmware_formats.unreadable import Unreadable

META = "meta.conf"
SIGNATURE = "meta.conf.ed25519"
UNPACKED_FACTOR = 8  # an archive of the largest size may unpack to so many times as much: images of disks are mostly empty
_DATA = "data/"
_META_MAX = 1 << 18  # bytes; real ones have a few ten thousand
_DEPTH_MAX = 16
_SHOWN = ("version", "product", "platform", "author")
_HASH = "blake2b-256"

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | //[^\n]*
      | (?P<comment>/\*)
      | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
      | (?P<mark>[{}(),=]|\+=)
      | (?P<word>[^\s{}(),=+"'\#]+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Package:
    """What a sound archive says of itself; what meta.conf leaves out is empty text."""

    version: str
    product: str
    platform: str
    author: str
    resources: int
    is_signed: bool  # there is a signature; whose it is, the device says


@dataclass
class _Block:
    """One level of meta.conf: `kind "name" { … }`, with its settings."""

    kind: str = ""
    name: str = ""
    settings: dict[str, str] = field(default_factory=dict)


def read(content: Content, *, unpacked_max: int = UNPACKED_FACTOR * DEFAULT_MAX_BYTES) -> Package:
    """What the archive says of itself, once every resource has been unpacked and hashed.

    `unpacked_max` limits what everything together may unpack to, in bytes.
    Raises Unreadable, and nothing else, whatever the bytes.
    Source: firmware formats, "Other formats".
    """
    with memoryview(content) as view:
        archive = Archive(view, unpacked_max=unpacked_max)
        entry = archive.entries.get(META)
        if entry is None or entry.size > _META_MAX:
            raise Unreadable("NOT_A_MODULE", "The archive has no meta.conf of a usual size. Upload the .fw that fwup wrote.")
        top, *blocks = _parsed(archive.content(entry))
        resources = {block.name: block for block in blocks if block.kind == "file-resource"}
        _require_listed(archive, set(resources))
        for name, block in resources.items():
            _require_sound(archive, name, block)
        version, product, platform, author = (_shown(top.settings.get(f"meta-{key}", "")) for key in _SHOWN)
        return Package(version, product, platform, author, len(resources), SIGNATURE in archive.entries)


def _require_listed(archive: Archive, resources: set[str]) -> None:
    """Nothing in it that nobody answers for, and nothing missing."""
    for name in archive.entries:
        if name not in (META, SIGNATURE) and not (name.startswith(_DATA) and name.removeprefix(_DATA) in resources):
            raise Unreadable("UNSUPPORTED", f"The archive holds {name}, of which its meta.conf says nothing. Make it anew with fwup.")
    for name in resources:
        if _DATA + name not in archive.entries:
            raise Unreadable("BAD_LENGTH", f"The archive's meta.conf lists {name}, which it does not hold. Make it anew with fwup.")


def _require_sound(archive: Archive, name: str, block: _Block) -> None:
    stated = block.settings.get(_HASH, "").lower()
    if not re.fullmatch("[0-9a-f]{64}", stated):
        raise Unreadable("NOT_A_MODULE", f"The archive's meta.conf gives {name} no {_HASH}. Make it anew with fwup.")
    digest = hashlib.blake2b(digest_size=32)
    for piece in archive.pieces(archive.entries[_DATA + name]):
        digest.update(piece)
    if digest.hexdigest() != stated:
        raise Unreadable("BAD_DIGEST", f"The hash of {name} in meta.conf does not fit its bytes: it was changed. Make the archive anew.")


# ── meta.conf ──
def _parsed(raw: bytes) -> list[_Block]:
    """The file itself, as a block without a kind, and every block that stands directly in it; deeper ones are skipped."""
    top = _Block()
    blocks, open_blocks, words = [top], [top], list[str]()
    for kind, text in _tokens(raw):
        current = open_blocks[-1]
        if kind != "mark":
            words.append(text)
            if len(words) >= 3 and words[-2] == "=":
                current.settings[words[-3]] = text
                words.clear()
        elif text in ("=", "+="):
            words.append("=")
        elif text == "{" and words[-1:] == ["="]:  # a list of values: it ends with the next brace
            open_blocks.append(_Block("="))
            words.clear()
        elif text == "{":
            opened = _Block(*(words[-2:] if len(words) >= 2 else (*words, "", "")[:2]))
            if len(open_blocks) == 1:
                blocks.append(opened)
            elif len(open_blocks) > _DEPTH_MAX:
                raise _malformed()
            open_blocks.append(opened)
            words.clear()
        elif text == "}":
            if len(open_blocks) == 1:
                raise _malformed()
            open_blocks.pop()
            words.clear()
        else:  # the arguments of a function, which no action of ours needs
            words.clear()
    if len(open_blocks) != 1:
        raise _malformed()
    return blocks


def _tokens(raw: bytes) -> Iterator[tuple[str, str]]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed() from None
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _malformed()
        position = found.end()
        if found.lastgroup == "comment":  # sought by hand: a pattern would seek the same missing end again and again
            position = text.find("*/", position) + 2
            if position < 2:
                raise _malformed()
        elif found.lastgroup == "text":
            yield "text", re.sub(r"\\(.)", r"\1", found["text"][1:-1], flags=re.DOTALL)
        elif found.lastgroup:
            yield found.lastgroup, found[found.lastgroup]


def _shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:100]


def _malformed() -> Unreadable:
    return Unreadable("NOT_A_MODULE", "The archive's meta.conf is not well formed. Make it anew with fwup.")
