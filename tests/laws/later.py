"""What the contract promises and is not built yet, with the reason: places as tests/laws/contract.py names them.

The law fails for whatever stands here and exists, so that the list only shrinks.
"""

LATER: dict[str, str] = {}
