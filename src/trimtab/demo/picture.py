"""The picture of before and after: one SVG file, light and dark, made from a run."""

from __future__ import annotations

from trimtab.demo.charts import css, latency_rows, servers_panel
from trimtab.demo.experiment import Mode
from trimtab.demo.report import Report
from trimtab.svg import Drawing

WIDTH = 880.0
MARGIN = 20.0
PANEL = (WIDTH - 3 * MARGIN) / 2
PANEL_HEIGHT = 230.0


def picture(report: Report) -> str:
    """Requests per server and latency, pinned connections beside trimtab."""
    setting = report.experiment
    drawing = Drawing()
    latency_top = MARGIN + PANEL_HEIGHT + 44
    height = latency_top + 2 * 46 + 22 + 30
    drawing.rect(0, 0, (WIDTH, height), "paper")
    before = "Before: a connection keeps its server"
    after = "After: trimtab picks for every request"
    for n, (mode, title) in enumerate(((Mode.PINNED, before), (Mode.TRIMTAB, after))):
        x = MARGIN + n * (PANEL + MARGIN)
        servers_panel(drawing, report, mode, box=(x, MARGIN, PANEL, PANEL_HEIGHT), title=title)
    drawing.text(MARGIN, latency_top - 16, "Latency in milliseconds", "head")
    latency_rows(
        drawing,
        report,
        (Mode.PINNED, Mode.TRIMTAB),
        box=(MARGIN, latency_top, WIDTH - 2 * MARGIN),
    )
    slow_ms = setting.service_ms[setting.slow_server - 1]
    drawing.text(
        MARGIN,
        height - 10,
        f"trimtab demo, seed {report.seed}: {setting.requests_per_s:g} requests/s, "
        f"{setting.first_servers} servers and then {setting.servers}, "
        f"{min(setting.service_ms):g} ms each (server {setting.slow_server}: {slow_ms:g} ms). "
        f"Dashed: even share.",
        "dim",
    )
    return drawing.svg(WIDTH, height, f"{before}. {after}.", style=css()) + "\n"
