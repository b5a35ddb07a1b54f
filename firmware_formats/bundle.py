"""Reads a Particle bundle: a zip of one application and the assets that it names."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from firmware_formats.archive import Archive
from firmware_formats.content import Content
from firmware_formats.particle import ExtensionType, Module
from firmware_formats.platforms import DEFAULT_MAX_BYTES
from firmware_formats.unreadable import Unreadable

_ASSETS = "assets/"
_SHA256 = 0  # the one kind of hash that an asset is named with
_SHA256_BYTES = 32


@dataclass(frozen=True, slots=True)
class Bundle:
    """The application's own bytes, which have to pass the gate by themselves, and the assets by name with their SHA-256."""

    application: bytes
    assets: dict[str, str]


def read(content: Content, *, unpacked_max: int = DEFAULT_MAX_BYTES) -> Bundle:
    """What is in the bundle; whether the application names the assets is for `require_named` to say, once it was read.

    `unpacked_max` limits what everything together may unpack to, in bytes. Nothing is ever written under a name of the zip.
    Raises Unreadable, and nothing else, whatever the bytes.
    Source: firmware formats, "Compressed, combined, bundle, and the traps".
    """
    with memoryview(content) as view:
        archive = Archive(view, unpacked_max=unpacked_max)
        applications = [name for name in archive.entries if "/" not in name and name.endswith(".bin")]
        if len(applications) != 1:
            raise Unreadable("UNSUPPORTED", f"The bundle holds {len(applications)} applications (.bin) at its top; exactly one is taken.")
        stray = [name for name in archive.entries if name not in applications and not name.startswith(_ASSETS)]
        if stray:
            raise Unreadable("UNSUPPORTED", f"The bundle holds {stray[0]}; besides the application only files in assets/ are taken.")
        application = archive.content(archive.entries[applications[0]])
        assets = {}
        for name, entry in archive.entries.items():
            if name.startswith(_ASSETS):
                digest = hashlib.sha256()
                for piece in archive.pieces(entry):
                    digest.update(piece)
                assets[name.removeprefix(_ASSETS)] = digest.hexdigest()
        return Bundle(application, assets)


def require_named(bundle: Bundle, module: Module) -> None:
    """Each asset must be named, with its hash, by the application, and each it names must be there. Raises Unreadable."""
    named = dict(_named(module))
    for name, sha256 in bundle.assets.items():
        if name not in named:
            raise Unreadable("UNSUPPORTED", f"The application does not name the asset {name}. Make the bundle anew.")
        if named[name] != sha256:
            raise Unreadable("BAD_DIGEST", f"The asset {name} is not the one that the application names: its SHA-256 differs.")
    missing = sorted(named.keys() - bundle.assets.keys())
    if missing:
        raise Unreadable("UNSUPPORTED", f"The application names the asset {missing[0]}, which the bundle does not hold. Make it anew.")


def _named(module: Module) -> Iterator[tuple[str, str]]:
    for extension in module.extensions:
        if extension.type == ExtensionType.ASSET_DEPENDENCY:
            kind, length, sha256 = extension.data[:1], extension.data[1:2], extension.data[2 : 2 + _SHA256_BYTES]
            if kind != bytes([_SHA256]) or length != bytes([_SHA256_BYTES]) or len(sha256) != _SHA256_BYTES:
                raise Unreadable("UNSUPPORTED", "The application names an asset by another hash than SHA-256. Build it again.")
            yield extension.data[2 + _SHA256_BYTES :].decode("utf-8", errors="replace"), sha256.hex()
