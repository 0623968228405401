"""The charts of a demo, each drawn from the report alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab.demo.experiment import Mode
from trimtab.demo.figures import Figures, Slot
from trimtab.demo.report import Report
from trimtab.svg import Drawing, side_by_side

FONT = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
COLOURS = {  # light, dark
    Mode.PINNED: ("#c0392b", "#ff8a7a"),
    Mode.ROUND_ROBIN_STALE: ("#a8660a", "#f0b35a"),
    Mode.ROUND_ROBIN: ("#2a6fb0", "#7ab8f5"),
    Mode.TRIMTAB: ("#1a7f4b", "#5fd39a"),
}
INK = ("#1c2228", "#e8ecf0")
DIM = ("#5b6670", "#9aa7b3")
GRID = ("#d8dee3", "#39434d")
PAPER = ("#ffffff", "#12171c")
TICKS_MS = (20, 50, 100, 200, 500, 1000, 2000)
FASTEST_MS, SLOWEST_MS = 14.0, 3000.0
LETTER = 6.2  # the width of a small letter, about


def css() -> str:
    """The charts' style: colours as variables, for light and dark."""

    def variables(scheme: int) -> str:
        named = {"ink": INK, "dim": DIM, "grid": GRID, "paper": PAPER}
        pairs = [f"--{name}:{colours[scheme]}" for name, colours in named.items()]
        pairs += [f"--{mode.value}:{colours[scheme]}" for mode, colours in COLOURS.items()]
        return ";".join(pairs)

    rules = [
        f":root{{color-scheme:light dark;{variables(0)}}}",
        f"@media (prefers-color-scheme:dark){{:root{{{variables(1)}}}}}",
        f"svg text{{font:13px {FONT};fill:var(--ink)}}",
        "svg text.dim{fill:var(--dim);font-size:12px}",
        "svg text.small{font-size:11px}",
        "svg text.small.dim{font-size:11px}",
        "svg text.head{font-size:15px;font-weight:600}",
        "svg text.halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px}",
        "svg .paper{fill:var(--paper)}",
        "svg .grid{stroke:var(--grid);stroke-width:1}",
        "svg .mean{stroke:var(--ink);stroke-width:1;stroke-dasharray:4 3;opacity:.7}",
        "svg .mark{stroke:var(--dim);stroke-width:1;stroke-dasharray:2 3}",
        "svg polyline{fill:none;stroke-width:2;stroke-linejoin:round}",
        "svg .faint{opacity:.45}",
        "svg line.bar{stroke-width:4;opacity:.5}",
    ]
    for mode in Mode:
        name = mode.value
        rules += [
            f"svg rect.{name},svg circle.{name}{{fill:var(--{name})}}",
            f"svg line.{name},svg polyline.{name}{{stroke:var(--{name})}}",
            f"svg text.{name}{{fill:var(--{name})}}",
        ]
    return "".join(rules)


def servers_panel(
    drawing: Drawing,
    report: Report,
    mode: Mode,
    *,
    box: tuple[float, float, float, float],
    title: str | None = None,
) -> None:
    """Requests per server of one mode, on a scale that all modes share.

    Args:
        drawing: where to draw.
        report: the result.
        mode: whose bars.
        box: x, y, width, height.
        title: the heading; the mode's name if None.
    """
    x, y, width, height = box
    counts = report.modes[mode.value].requests_per_server
    top = max(max(f.requests_per_server) for f in report.modes.values()) or 1
    setting = report.experiment
    drawing.text(x, y + 14, title or mode.value, f"head {mode.value}")
    evenness = report.modes[mode.value].max_over_mean
    if evenness is not None:
        drawing.text(x, y + 30, f"max/mean {evenness:.2f}", "dim")
    floor, room = y + height - 34, height - 34 - 54
    step = width / len(counts)
    for n, count in enumerate(counts):
        tall = room * count / top
        left = x + n * step + step * 0.12
        drawing.rect(
            left, floor - tall, (step * 0.76, tall), mode.value, f"server {n + 1}: {count} requests"
        )
    even = floor - room * (sum(counts) / len(counts)) / top
    drawing.line(x, even, x + width, even, "mean")
    for n, count in enumerate(counts):
        middle = x + (n + 0.5) * step
        tall = room * count / top
        css_class = "small halo" if count else "small dim"
        drawing.text(middle, floor - tall - 4, f"{count:,}", css_class, "middle")
        drawing.text(middle, floor + 14, str(n + 1), "dim", "middle")
        if n + 1 == setting.slow_server:
            drawing.text(middle, floor + 28, "slow", "small", "middle")
    new_from = x + setting.first_servers * step
    drawing.line(new_from + step * 0.12, floor + 19, x + width - step * 0.12, floor + 19, "grid")
    drawing.text((new_from + x + width) / 2, floor + 31, "new", "small dim", "middle")
    drawing.line(x, floor, x + width, floor, "grid")


def servers(report: Report) -> str:
    """Requests per server, a panel per mode."""
    drawing = Drawing()
    width, gap = 215.0, 20.0
    for n, mode in enumerate(Mode):
        servers_panel(drawing, report, mode, box=(n * (width + gap), 0, width, 250))
    return drawing.svg(4 * width + 3 * gap, 252, "Requests per server, by mode")


def _log(value_ms: float, start: float, length: float) -> float:
    clipped = min(max(value_ms, FASTEST_MS), SLOWEST_MS)
    span = math.log(SLOWEST_MS / FASTEST_MS)
    return start + length * math.log(clipped / FASTEST_MS) / span


def _tick(value_ms: int) -> str:
    return f"{value_ms} ms" if value_ms < 1000 else f"{value_ms // 1000} s"  # noqa: PLR2004


def latency_rows(
    drawing: Drawing, report: Report, modes: Sequence[Mode], *, box: tuple[float, float, float]
) -> float:
    """p50, p90 and p99 of some modes on one logarithmic axis; returns the height used.

    Args:
        drawing: where to draw.
        report: the result.
        modes: from top to bottom.
        box: x, y, width.
    """
    x, y, width = box
    names, row = 150.0, 46.0
    left, length = x + names, width - names - 10
    bottom = y + row * len(modes)
    for tick in TICKS_MS:
        at = _log(tick, left, length)
        drawing.line(at, y, at, bottom, "grid")
        drawing.text(at, bottom + 16, _tick(tick), "dim", "middle")
    for n, mode in enumerate(modes):
        _latency_row(
            drawing, mode, report.modes[mode.value], y + n * row + row / 2 + 6, (x, left, length)
        )
    return bottom + 22 - y


def _latency_row(
    drawing: Drawing,
    mode: Mode,
    result: Figures,
    middle: float,
    place: tuple[float, float, float],
) -> None:
    x, left, length = place
    drawing.text(x, middle + 4, mode.value, f"{mode.value}")
    if result.error_rate:
        drawing.text(x, middle + 19, f"{result.error_rate:.1%} failed", "small dim")
    shown = [("p50", result.p50_ms), ("p90", result.p90_ms), ("p99", result.p99_ms)]
    points = [(name, ms, _log(ms, left, length)) for name, ms in shown if ms is not None]
    if not points:
        return
    drawing.line(points[0][2], middle, points[-1][2], middle, f"{mode.value} bar")
    labels = [f"{name} {ms:,.0f}" for name, ms, _ in points]
    widths = [LETTER * len(label) for label in labels]
    centres = [at for _, _, at in points]
    for begin, label in zip(side_by_side(centres, widths, left + length), labels, strict=True):
        drawing.text(begin, middle - 10, label, "small")
    for name, ms, at in points:
        drawing.dot(at, middle, 5, mode.value, f"{mode.value} {name}: {ms:g} ms")


def latencies(report: Report) -> str:
    """Latency percentiles of all modes."""
    drawing = Drawing()
    height = latency_rows(drawing, report, list(Mode), box=(0, 0, 920))
    return drawing.svg(920, height, "Latency percentiles in milliseconds, by mode")


def over_time(report: Report) -> str:
    """Latency over the phase, a panel per mode, on one logarithmic axis."""
    drawing = Drawing()
    axis, width, gap, height = 54.0, 198.0, 24.0, 190.0
    top, floor = 30.0, height - 24.0
    for tick in TICKS_MS:
        y = floor - _log(tick, 0, floor - top)
        drawing.text(axis - 6, y + 4, _tick(tick), "small dim", "end")
    for n, mode in enumerate(Mode):
        left = axis + n * (width + gap)
        drawing.text(left, 14, mode.value, f"head {mode.value}")
        for tick in TICKS_MS:
            y = floor - _log(tick, 0, floor - top)
            drawing.line(left, y, left + width, y, "grid")
        _time_panel(drawing, report, mode, (left, width, top, floor))
    return drawing.svg(
        axis + 4 * width + 3 * gap, height, "Latency over the time of the phase, by mode"
    )


def _time_panel(
    drawing: Drawing, report: Report, mode: Mode, place: tuple[float, float, float, float]
) -> None:
    left, width, top, floor = place
    phase_s, scale_up_s = report.experiment.phase_s, report.experiment.scale_up_s
    slots = report.details[mode.value].timeline

    def points(value: str) -> list[tuple[float, float]]:
        return [
            (left + width * s.at_s / phase_s, floor - _log(_of(s, value), 0, floor - top))
            for s in slots
        ]

    mark = left + width * scale_up_s / phase_s
    drawing.line(mark, top, mark, floor, "mark")
    drawing.text(mark + 4, top + 8, "scale-up", "small dim")
    drawing.path(points("p99"), f"{mode.value} faint")
    drawing.path(points("p50"), mode.value)
    drawing.text(left, floor + 16, "0 s", "small dim")
    drawing.text(left + width, floor + 16, f"{phase_s:g} s", "small dim", "end")


def _of(slot: Slot, value: str) -> float:
    return slot.p99_ms if value == "p99" else slot.p50_ms
