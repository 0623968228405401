"""The result as one HTML file: charts inline, nothing loaded from anywhere, light and dark."""

from __future__ import annotations

from html import escape

from trimtab.sim import charts
from trimtab.sim.report import Report, cells, heads, speed, summary, tells_after

STYLE = """
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}
main{max-width:940px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 8px}
h2{font-size:19px;margin:36px 0 4px}
p{margin:6px 0 12px;max-width:76ch}
p.note{color:var(--dim);font-size:14px}
.chart{overflow-x:auto;margin:12px 0}
.chart svg{display:block;width:100%;min-width:720px;height:auto}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:12px 0;font-size:14px}
th,td{text-align:right;padding:6px 8px;border-bottom:1px solid var(--grid);white-space:nowrap}
th{font-weight:600;color:var(--dim)}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;min-width:150px}
"""


def page(report: Report, command: str) -> str:
    """The whole file; ``command`` is what it was made by."""
    css_of = charts.names(report)
    marks = "".join(
        f"td.{name}{{color:var(--{name});font-weight:600}}" for name in sorted(set(css_of.values()))
    )
    scenario = report.scenario
    seed = scenario.seeds[0]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>trimtab simulate {escape(report.name)}</title>
<style>{charts.css()}{STYLE}{marks}</style>
</head>
<body>
<main>
<h1>{escape(scenario.title)}</h1>
<p>{escape(summary(scenario))}</p>
<h2>Latency</h2>
<p class="note">The axis is logarithmic. Grey rows are bounds: random choice, and what a chooser could
do that knew the true state of every pod at every moment.</p>
<div class="chart">{charts.latencies(report)}</div>
<h2>Figures</h2>
<p class="note">Latencies in milliseconds{
        "; ± is the standard deviation over the seeds" if len(scenario.seeds) > 1 else ""
    }. max/mean: the most requests of a pod over the mean.
{"(2 s): of requests that began within 2 s after an event." if tells_after(report) else ""}</p>
<div class="scroll">{_figures(report, css_of)}</div>
<h2>p99 over time</h2>
<p class="note">Seed {seed}; the other policies are drawn faintly behind.
{"Dashed: events." if scenario.events else ""}</p>
<div class="chart">{charts.over_time(report)}</div>
<h2>Requests of each pod</h2>
<p class="note">Seed {seed}; the dashed line is an even share. Where pods are unequal, an uneven
share is right.</p>
<div class="chart">{charts.picks(report)}</div>
<p class="note">Simulated with the production policies, {escape(speed(report.rows))}. Made by
<code>{escape(command)}</code>.</p>
</main>
</body>
</html>
"""


def _figures(report: Report, css_of: dict[str, str]) -> str:
    titles = "".join(f"<th>{escape(head)}</th>" for head in heads(report))
    rows = [f"<tr><th>policy</th>{titles}</tr>"]
    for row in report.rows:
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells(row, report))
        rows.append(f'<tr><td class="{css_of[row.label]}">{escape(row.label)}</td>{shown}</tr>')
    return f"<table>{''.join(rows)}</table>"
