"""SVG as text: the few shapes that the charts need. Colours come from CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_LABEL_GAP = 8.0


class Drawing:
    """Shapes in drawing order, in user units."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        """A line of text; ``y`` is its baseline."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">'
            f"{escape(text)}</text>"
        )

    def rect(self, x: float, y: float, size: tuple[float, float], css: str, tip: str = "") -> None:
        """A rectangle; its tooltip is what screen readers say as well."""
        width, height = size
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'class="{css}">{title}</rect>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line."""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """A line through several points."""
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{where}" class="{css}"/>')

    def dot(self, x: float, y: float, radius: float, css: str, tip: str) -> None:
        """A disc with a tooltip."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{css}">'
            f"<title>{escape(tip)}</title></circle>"
        )

    def svg(self, width: float, height: float, title: str, *, style: str = "") -> str:
        """The whole element. With ``style`` it stands alone as a file."""
        inner = f"<style>{style}</style>" if style else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(title)}">'
            f"{inner}{''.join(self._parts)}</svg>"
        )


def side_by_side(centres: Sequence[float], widths: Sequence[float], end: float) -> list[float]:
    """Where labels begin so that each is near its centre, none overlaps, and the last ends in time.

    Args:
        centres: where each would like to be, ascending.
        widths: how wide each is.
        end: where the last one must end.
    """
    begins: list[float] = []
    free = -math.inf
    for centre, width in zip(centres, widths, strict=True):
        begins.append(max(centre - width / 2, free))
        free = begins[-1] + width + _LABEL_GAP
    limit = end
    for n in reversed(range(len(begins))):
        begins[n] = min(begins[n], limit - widths[n])
        limit = begins[n] - _LABEL_GAP
    return begins
