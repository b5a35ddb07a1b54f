"""The platforms, as products have them and devices report them."""

from firmware_formats.platforms import Platform
from schema.fields import enumeration

__all__ = ["Platform"]

enumeration(
    Platform,
    "The hardware of a product; it decides which firmware can run on it, and never changes.",
    CORE="Spark Core.",
    PHOTON="Photon.",
    P1="P1, the module.",
    P0="P0, the Wi-Fi module of a Photon.",
    ELECTRON="Electron.",
    ARGON="Argon.",
    BORON="Boron.",
    XENON="Xenon.",
    P2="P2 and Photon 2.",
    MSOM="M SoM.",
    TRACKER="Tracker.",
    ESP32="Any chip of the ESP32 family; firmware is an ESP-IDF application image.",
    MCUBOOT="Anything that boots with MCUboot; firmware is an MCUboot image.",
    OTHER="Anything else; firmware is taken as it is.",
)
