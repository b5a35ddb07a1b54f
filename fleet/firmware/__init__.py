"""Firmware: taking files in, deciding what each device runs, locks, releases, and the way onto the device."""
