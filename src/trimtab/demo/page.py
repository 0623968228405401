"""The result as one HTML file: charts inline, nothing loaded from anywhere, light and dark."""

from __future__ import annotations

from html import escape

from trimtab.demo import charts, words
from trimtab.demo.experiment import Mode
from trimtab.demo.report import Report

STYLE = """
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}
main{max-width:940px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 8px}
h2{font-size:19px;margin:40px 0 4px}
p{margin:6px 0 12px;max-width:76ch}
p.note{color:var(--dim);font-size:14px}
p.warning{border-left:4px solid var(--pinned);padding-left:12px;font-weight:600}
.chart{overflow-x:auto;margin:12px 0}
.chart svg{display:block;width:100%;min-width:720px;height:auto}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:12px 0}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--grid);white-space:nowrap}
th{font-weight:600;color:var(--dim);font-size:14px}
th:first-child,td:first-child{text-align:left;padding-left:0}
td.words{text-align:left;white-space:normal;min-width:200px}
th.words{text-align:left}
dt{font-weight:600;margin-top:12px}
dd{margin:2px 0 0;max-width:76ch}
"""


def page(report: Report) -> str:
    """The whole file."""
    setting = report.experiment
    kept_up = "note" if report.kept_up else "warning"
    style = (
        charts.css()
        + STYLE
        + "".join(f".{mode.value}{{color:var(--{mode.value});font-weight:600}}" for mode in Mode)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>trimtab demo, seed {report.seed}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>The same requests, through four kinds of channels</h1>
<p>{escape(words.summary(setting))}</p>
<h2>Requests per server</h2>
<p class="note">Counted by the servers, in the measured window; the dashed line is an even share.</p>
<div class="chart">{charts.servers(report)}</div>
<h2>Latency</h2>
<p class="note">From when a request was due. The axis is logarithmic; the deadline is
{setting.deadline_s:g} s.</p>
<div class="chart">{charts.latencies(report)}</div>
<h2>Figures</h2>
<p class="note">Latencies in milliseconds.</p>
<div class="scroll">{_figures(report)}</div>
<h2>How each picks, and which servers it knows</h2>
<div class="scroll">{_modes(report)}</div>
<h2>How to read it</h2>
<dl>{_readings(report)}</dl>
<h2>Latency over the phase</h2>
<p class="note">Median (strong) and p99 (faint) of the requests due in each quarter of a
second.</p>
<div class="chart">{charts.over_time(report)}</div>
<h2>The fine print</h2>
<p>{escape(words.measured(setting))}</p>
<p class="{kept_up}">{escape(words.machine_verdict(report))}</p>
<p class="note">{escape(words.machine_facts(report))}.
Made by <code>trimtab demo --seconds {setting.seconds:g} --seed {report.seed}</code>.</p>
</main>
</body>
</html>
"""


def _figures(report: Report) -> str:
    heads = "".join(f"<th>{head}</th>" for head in words.HEADS)
    rows = [f"<tr><th>mode</th>{heads}</tr>"]
    for mode in Mode:
        cells = "".join(f"<td>{cell}</td>" for cell in words.cells(report.modes[mode.value]))
        rows.append(f'<tr><td class="{mode.value}">{mode.value}</td>{cells}</tr>')
    return f"<table>{''.join(rows)}</table>"


def _modes(report: Report) -> str:
    rows = [
        '<tr><th>mode</th><th class="words">picks</th><th class="words">knows</th></tr>',
        *(
            f'<tr><td class="{mode.value}">{mode.value}</td>'
            f'<td class="words">{escape(words.PICKS[mode])}</td>'
            f'<td class="words">{escape(words.knows(mode, report.experiment))}</td></tr>'
            for mode in Mode
        ),
    ]
    return f"<table>{''.join(rows)}</table>"


def _readings(report: Report) -> str:
    return "".join(
        f"<dt>{escape(heading)}</dt><dd>{escape(text)}</dd>"
        for heading, text in words.readings(report)
    )
