"""Bars as SVG, without a library: enough for what a benchmark has to show."""

from collections.abc import Mapping
from html import escape

WIDTH, ROW, LABEL = 720, 28, 230  # pixels


def bars(title: str, values: Mapping[str, float]) -> str:
    """A bar for each value, the line at 1 being us."""
    top = max([1.0, *values.values()])
    scale = (WIDTH - LABEL - 70) / top
    rows = [_bar(number, name, value, scale) for number, (name, value) in enumerate(values.items())]
    height = 50 + ROW * len(values)
    at_one = LABEL + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/><text x="10" y="22" font-weight="bold">{escape(title)}</text>',
            *rows,
            f'<line x1="{at_one:.0f}" x2="{at_one:.0f}" y1="34" y2="{height - 8}" stroke="#888" stroke-dasharray="3"/>',
            "</svg>\n",
        ]
    )


def _bar(number: int, name: str, value: float, scale: float) -> str:
    y = 40 + ROW * number
    return (
        f'<text x="10" y="{y + 15}">{escape(name)}</text><rect x="{LABEL}" y="{y}" width="{value * scale:.0f}" height="20" fill="#3a7"/>'
        f'<text x="{LABEL + value * scale + 6:.0f}" y="{y + 15}">{value:.2f} ×</text>'
    )
