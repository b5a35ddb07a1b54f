"""What a firmware file says of itself, and whether a product may take it: bytes in, verdicts out, no I/O."""
