"""A picture of the policies' p99 beside what global knowledge could do."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.sim.charts import css
from trimtab.svg import Drawing

MOST = 4.0  # times the bound; longer bars are cut
_LEFT, _BAR, _ROW, _WIDTH = 230.0, 430.0, 17.0, 760.0


def chart(cases: Mapping[str, Mapping[str, float]], bound: str) -> str:
    """Bars by case and policy: p99 over the bound's p99. An SVG file's text.

    Args:
        cases: p99 by policy, by case.
        bound: the row that the others are divided by.
    """
    drawing, y = Drawing(), 24.0
    drawing.text(10, y, f"p99, as a multiple of global knowledge; bars end at {MOST:g}", "head")
    for case, found in cases.items():
        y += 30.0
        drawing.text(10, y, case, "head")
        begin = y + 6.0
        for name, p99 in found.items():
            if name == bound:
                continue
            y += _ROW
            ratio = p99 / found[bound]
            colour = "policy2" if name.startswith("token") else "policy0"
            length = _BAR * min(ratio, MOST) / MOST
            drawing.text(_LEFT - 8, y + 1, name, "dim", "end")
            drawing.rect(_LEFT, y - 9, (length, 12), colour, f"{name}: {ratio:.2f}")
            drawing.text(_LEFT + length + 6, y + 1, f"{ratio:.2f}", "small")
        one = _LEFT + _BAR / MOST
        drawing.line(one, begin, one, y + 6, "grid")
    style = css() + "svg{background:var(--paper)}"
    return drawing.svg(_WIDTH, y + 20, "p99 of the policies", style=style)
