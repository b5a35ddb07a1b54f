"""Devices: how they come in, whose they are, their coming and going, and the lists and numbers of a fleet."""
