"""The charts of a simulation, each drawn from the report alone."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized

from trimtab.sim.report import Report
from trimtab.sim.run import Row
from trimtab.svg import Drawing, side_by_side

FONT = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
COLOURS = (  # light, dark; policies take them in turn
    ("#2a6fb0", "#7ab8f5"),
    ("#a8660a", "#f0b35a"),
    ("#1a7f4b", "#5fd39a"),
    ("#8e44ad", "#cf9bea"),
    ("#c0392b", "#ff8a7a"),
    ("#0f7c8a", "#5cc9d6"),
    ("#8a6d00", "#d9c04a"),
    ("#b03a75", "#f08dbd"),
)
BOUND = ("#7b858e", "#8a96a1")
INK = ("#1c2228", "#e8ecf0")
DIM = ("#5b6670", "#9aa7b3")
GRID = ("#d8dee3", "#39434d")
PAPER = ("#ffffff", "#12171c")
WIDTH = 920.0
LETTER = 6.2  # the width of a small letter, about
QUANTILES = (("p50", "p50_ms"), ("p90", "p90_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"))
_COLUMNS = 3
_GAP = 28.0


def names(report: Report) -> dict[str, str]:
    """The CSS class of each row, by label."""
    found: dict[str, str] = {}
    for row in report.rows:
        index = sum(not name.startswith("bound") for name in found.values())
        found[row.label] = "bound" if row.bound else f"policy{index % len(COLOURS)}"
    return found


def css() -> str:
    """The charts' style: colours as variables, for light and dark."""
    classes = {f"policy{i}": colours for i, colours in enumerate(COLOURS)} | {"bound": BOUND}
    named = {"ink": INK, "dim": DIM, "grid": GRID, "paper": PAPER} | classes

    def variables(scheme: int) -> str:
        return ";".join(f"--{name}:{colours[scheme]}" for name, colours in named.items())

    rules = [
        f":root{{color-scheme:light dark;{variables(0)}}}",
        f"@media (prefers-color-scheme:dark){{:root{{{variables(1)}}}}}",
        f"svg text{{font:13px {FONT};fill:var(--ink)}}",
        "svg text.dim{fill:var(--dim);font-size:12px}",
        "svg text.small{font-size:11px}",
        "svg text.small.dim{font-size:11px}",
        "svg text.head{font-size:14px;font-weight:600}",
        "svg .grid{stroke:var(--grid);stroke-width:1}",
        "svg .mean{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3;opacity:.7}",
        "svg .mark{stroke:var(--dim);stroke-width:1;stroke-dasharray:2 3}",
        "svg polyline{fill:none;stroke-width:2;stroke-linejoin:round}",
        "svg polyline.others{stroke:var(--grid);stroke-width:1.2}",
        "svg line.bar{stroke-width:4;opacity:.5}",
    ]
    for name in classes:
        rules += [
            f"svg rect.{name},svg circle.{name}{{fill:var(--{name})}}",
            f"svg line.{name},svg polyline.{name}{{stroke:var(--{name})}}",
            f"svg text.{name}{{fill:var(--{name})}}",
        ]
    return "".join(rules)


class Scale:
    """A logarithmic axis that has room for all values [ms]."""

    def __init__(self, values: Sequence[float]) -> None:
        good = [v for v in values if v > 0.0] or [1.0]
        self._low = math.log(min(good) * 0.85)
        self._high = math.log(max(good) * 1.25)

    def at(self, value_ms: float) -> float:
        """Where it lies, 0 to 1."""
        where = (math.log(max(value_ms, 1e-9)) - self._low) / (self._high - self._low)
        return min(1.0, max(0.0, where))

    def ticks(self) -> list[float]:
        """Round values on the axis [ms], three at least where there is room."""
        low, high = math.exp(self._low), math.exp(self._high)
        for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
            found = [
                step * 10.0**power
                for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
                for step in steps
                if low <= step * 10.0**power <= high
            ]
            if len(found) >= 3:  # noqa: PLR2004 - two ticks don't show that an axis is logarithmic
                return found
        return found


def _label_ms(value_ms: float) -> str:
    return f"{value_ms:g} ms" if value_ms < 1000 else f"{value_ms / 1000:g} s"  # noqa: PLR2004


def latencies(report: Report) -> str:
    """Quantiles of all policies on one axis."""
    drawing, css_of = Drawing(), names(report)
    shown = {
        row.label: [(q, ms) for q, name in QUANTILES if (ms := row.mean(name)) is not None]
        for row in report.rows
    }
    scale = Scale([ms for points in shown.values() for _, ms in points])
    left = 20.0 + LETTER * 1.12 * min(44, max(len(label) for label in shown))
    length, row_height = WIDTH - left - 16.0, 44.0
    bottom = 4.0 + row_height * len(shown)
    for tick in scale.ticks():
        x = left + length * scale.at(tick)
        drawing.line(x, 0, x, bottom, "grid")
        drawing.text(x, bottom + 16, _label_ms(tick), "dim", "middle")
    for i, (label, points) in enumerate(shown.items()):
        middle = i * row_height + row_height / 2 + 8
        drawing.text(0, middle + 4, label, css_of[label])
        if not points:
            continue
        xs = [left + length * scale.at(ms) for _, ms in points]
        drawing.line(xs[0], middle, xs[-1], middle, f"{css_of[label]} bar")
        texts = [f"{q} {ms:,.0f}" if ms >= 100 else f"{q} {ms:.1f}" for q, ms in points]  # noqa: PLR2004
        widths = [LETTER * len(text) for text in texts]
        for x, text in zip(side_by_side(xs, widths, WIDTH), texts, strict=True):
            drawing.text(x, middle - 10, text, "small")
        for x, (q, ms) in zip(xs, points, strict=True):
            drawing.dot(x, middle, 4.5, css_of[label], f"{label} {q}: {ms:.2f} ms")
    return drawing.svg(WIDTH, bottom + 22, "Latency quantiles in milliseconds, by policy")


def over_time(report: Report) -> str:
    """p99 over time: a panel for each policy, the others faint behind it."""
    drawing, css_of = Drawing(), names(report)
    lines = {row.label: row.runs[0].timeline for row in report.rows}
    scale = Scale([ms for line in lines.values() for _, ms in line])
    begin, end = report.scenario.measured_from_s(), report.scenario.length_s()
    axis, height = 50.0, 168.0
    width = (WIDTH - axis - (_COLUMNS - 1) * _GAP) / _COLUMNS

    def points(
        line: Sequence[tuple[float, float]], x: float, y: float
    ) -> list[tuple[float, float]]:
        room = height - 58
        return [
            (x + width * (at - begin) / (end - begin), y + 28 + room * (1.0 - scale.at(ms)))
            for at, ms in line
        ]

    for i, label in enumerate(lines):
        x = axis + i % _COLUMNS * (width + _GAP)
        y = i // _COLUMNS * height
        drawing.text(x, y + 16, label, f"head {css_of[label]}")
        for tick in scale.ticks():
            at = points([(begin, tick)], x, y)[0][1]
            drawing.line(x, at, x + width, at, "grid")
            if i % _COLUMNS == 0:
                drawing.text(axis - 6, at + 4, _label_ms(tick), "small dim", "end")
        for event in report.scenario.events:
            if begin < event.at_s < end:
                mark = x + width * (event.at_s - begin) / (end - begin)
                drawing.line(mark, y + 24, mark, y + height - 30, "mark")
        for other, line in lines.items():
            if other != label:
                drawing.path(points(line, x, y), "others")
        drawing.path(points(lines[label], x, y), css_of[label])
        drawing.text(x, y + height - 14, f"{begin:.3g} s", "small dim")
        drawing.text(x + width, y + height - 14, f"{end:.3g} s", "small dim", "end")
    return drawing.svg(WIDTH, _rows(lines) * height, "p99 over time, by policy")


def picks(report: Report) -> str:
    """Requests of each pod over the mean, a panel for each policy, on one scale."""
    drawing, css_of = Drawing(), names(report)
    top = max((row.runs[0].max_over_mean for row in report.rows), default=1.0) or 1.0
    height, axis = 138.0, 34.0
    width = (WIDTH - axis - (_COLUMNS - 1) * _GAP) / _COLUMNS
    for i, row in enumerate(report.rows):
        x = axis + i % _COLUMNS * (width + _GAP)
        y = i // _COLUMNS * height
        if i % _COLUMNS == 0:
            drawing.text(x - 5, y + height - 20 - (height - 52) / top, "even", "small dim", "end")
        _picks_panel(drawing, row, css_of[row.label], (x, y, width, height), top)
    return drawing.svg(WIDTH, _rows(report.rows) * height, "Requests of each pod, by policy")


def _picks_panel(
    drawing: Drawing, row: Row, css_class: str, box: tuple[float, float, float, float], top: float
) -> None:
    x, y, width, height = box
    run = row.runs[0]
    drawing.text(x, y + 16, row.label, f"head {css_class}")
    room, floor = height - 52, y + height - 24
    mean = sum(run.picks) / len(run.picks) or 1.0
    step = width / len(run.picks)
    gap = step * 0.2 if step > 3 else 0.0  # noqa: PLR2004 - narrower ones would vanish
    for n, count in enumerate(run.picks):
        tall = room * count / mean / top
        drawing.rect(
            x + n * step, floor - tall, (step - gap, tall), css_class,
            f"pod {n + 1}: {count:,} requests",
        )  # fmt: skip
    even = floor - room / top
    drawing.line(x, even, x + width, even, "mean")
    drawing.line(x, floor, x + width, floor, "grid")
    said = f"{len(run.picks)} pods, max/mean {run.max_over_mean:.2f}"
    drawing.text(x, floor + 15, said, "small dim")


def _rows(panels: Sized) -> int:
    return math.ceil(len(panels) / _COLUMNS)
