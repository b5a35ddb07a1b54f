"""Measurements, always side by side with a peer in one run; results go into RESULTS.md."""
