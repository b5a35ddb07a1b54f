"""Imports of devices: a file's lines, a verdict for each, and taking it all back."""
