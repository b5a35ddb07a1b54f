"""The platforms a product can have, the firmware formats, and the numbers Particle's modules use for platforms."""

from enum import StrEnum

KIB = 1024
MIB = 1024 * KIB
DEFAULT_MAX_BYTES = 16 * MIB


class Platform(StrEnum):
    """A product's platform, as in the schema."""

    CORE = "CORE"
    PHOTON = "PHOTON"
    P1 = "P1"
    P0 = "P0"
    ELECTRON = "ELECTRON"
    ARGON = "ARGON"
    BORON = "BORON"
    XENON = "XENON"
    P2 = "P2"
    MSOM = "MSOM"
    TRACKER = "TRACKER"
    ESP32 = "ESP32"
    MCUBOOT = "MCUBOOT"
    OTHER = "OTHER"


class FirmwareFormat(StrEnum):
    """How a stored binary is read, as in the schema."""

    PARTICLE = "PARTICLE"
    ESP32 = "ESP32"
    MCUBOOT = "MCUBOOT"
    FWUP = "FWUP"
    OPAQUE = "OPAQUE"


# A P0 is the Wi-Fi module of a Photon and says it is one.
PARTICLE_ID = {
    Platform.CORE: 0,
    Platform.PHOTON: 6,
    Platform.P0: 6,
    Platform.P1: 8,
    Platform.ELECTRON: 10,
    Platform.ARGON: 12,
    Platform.BORON: 13,
    Platform.XENON: 14,
    Platform.TRACKER: 26,
    Platform.P2: 32,
    Platform.MSOM: 35,
}

PARTICLE_NAME = {
    0: "Core",
    6: "Photon",
    8: "P1",
    10: "Electron",
    12: "Argon",
    13: "Boron",
    14: "Xenon",
    15: "E SoM X",
    22: "A SoM",
    23: "B SoM",
    24: "X SoM",
    25: "B5 SoM",
    26: "Tracker",
    28: "Tracker M",
    32: "P2",
    35: "M SoM",
    37: "Electron 2",
    38: "Sulu",
    103: "Bluz",
}

_LARGEST_APPLICATION = {
    Platform.CORE: 128 * KIB,
    Platform.PHOTON: 128 * KIB,
    Platform.P0: 128 * KIB,
    Platform.P1: 128 * KIB,
    Platform.ELECTRON: 128 * KIB,
    Platform.XENON: 128 * KIB,
    Platform.ARGON: 256 * KIB,
    Platform.BORON: 256 * KIB,
    Platform.TRACKER: 256 * KIB,
    Platform.P2: 1536 * KIB,
    Platform.MSOM: 1536 * KIB,
}


def size_cap(platform: str, settings_max: int = DEFAULT_MAX_BYTES) -> int:
    """The most bytes a file for this platform may have, so that an upload can be cut while it streams."""
    return min(_LARGEST_APPLICATION.get(Platform(platform), settings_max), settings_max)


def particle_name(platform_id: int) -> str:
    """For sentences: "Photon (6)"."""
    return f"{PARTICLE_NAME.get(platform_id, 'unknown')} ({platform_id})"


_NUMBERS: dict[str, int] = {str(platform): number for platform, number in PARTICLE_ID.items()}


def same_platform(one: str, other: str) -> bool:
    """Whether firmware cannot tell the two apart: the same, or both the same number, as P0 and PHOTON."""
    return one == other or _NUMBERS.get(one, one) == _NUMBERS.get(other, other)
