"""A run on one page of HTML: no script, nothing from a network, and all text in it escaped. Pure."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.core.attempts import goodput
from trainer.core.safe_text import redacted
from trainer.training.results.attempt_times import AttemptTime
from trainer.training.results.mistakes import Miss, Predictions
from trainer.training.results.svg import Curve, chart, escaped, number, time_line

_MOST_CHARTS = 24
_MOST_CLASSES = 30  # Of a matrix; of more classes those pairs are named that were mixed up most often.
_MOST_PAIRS = 20
_MOST_ATTEMPTS = 100
_VALIDATION = "val_"

_STYLE = """
:root{--ink:#1d2433;--soft:#5c6675;--page:#fff;--card:#f5f7fa;--line:#dfe4ea;--a:#2563eb;--b:#ea7317;--good:#2e9e6b;
--bad:#d64545;--wait:#a9b4c2;--start:#e0b340}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#9aa5b4;--page:#12161d;--card:#1b212b;--line:#303845;
--a:#7aa7ff;--b:#ffab66}}
*{box-sizing:border-box}body{margin:0 auto;max-width:960px;padding:32px 24px 64px;background:var(--page);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}h1{font-size:24px;margin:0;overflow-wrap:anywhere}
h2{font-size:17px;margin:36px 0 10px}h3{font-size:14px;margin:0 0 4px}p{margin:4px 0;color:var(--soft)}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:20px 0 0}.tile{background:var(--card);border-radius:8px;
padding:10px 14px;min-width:110px}.tile b{display:block;font-size:19px;font-variant-numeric:tabular-nums}
.tile span,.key{color:var(--soft);font-size:12px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));
gap:14px}.card{background:var(--card);border-radius:8px;padding:12px 14px;min-width:0}
svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line)}.tick{fill:var(--soft);font-size:11px}.curve{fill:none;stroke-width:2}.curve.a{stroke:var(--a)}
.curve.b{stroke:var(--b)}.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}.key i{display:inline-block;width:10px;height:10px;
border-radius:2px;margin:0 5px 0 12px}i.a{background:var(--a)}i.b{background:var(--b)}
.wait{fill:var(--wait);background:var(--wait)}.start{fill:var(--start);background:var(--start)}
.good{fill:var(--good);background:var(--good)}.lost{fill:var(--bad);background:var(--bad)}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
th,td{padding:4px 9px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:break-word}
th{color:var(--soft);font-weight:500;white-space:nowrap}
.matrix td,.matrix th{text-align:right;border:0;min-width:34px}
.misses{display:grid;grid-template-columns:repeat(auto-fill,minmax(120px,1fr));gap:10px}.misses figure{margin:0}
.misses img{width:84px;image-rendering:pixelated;border-radius:4px;display:block;background:#000}
.misses figcaption{font-size:12px;color:var(--soft)}code{font-size:13px;overflow-wrap:anywhere}
"""
# The page asks for nothing: what a browser would fetch or run all the same, it is forbidden.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows."""

    run: str
    figures: Mapping[str, Any]  # As in result.json.
    history: Sequence[Mapping[str, float]]  # Loss and metrics, an epoch each.
    attempts: Sequence[AttemptTime]
    predictions: Predictions | None
    flags: Sequence[tuple[str, object, bool]]  # Name, value, whether it is not the default.


def page(report: Report) -> str:
    """The page."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escaped(report.run)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escaped(report.run)}</h1>",
        _summary(report),
        _curves(report.history),
        _attempts(report.attempts),
        _predictions(report.predictions) if report.predictions else "",
        _flags(report.flags),
        _versions(report.figures),
        "</body></html>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


def _summary(report: Report) -> str:
    figures, last = report.figures, report.history[-1] if report.history else {}
    measured = [(name.replace(_VALIDATION, "validation "), number(value)) for name, value in last.items()]
    tiles = [
        *measured[:8],
        ("examples/s", f"{figures['examples_per_second']:,.0f}"),
        ("restarts", figures["restarts"]),
        ("goodput", f"{goodput(report.attempts) or 0.0:.0%}"),
    ]
    shown = "".join(
        f'<div class="tile"><b>{escaped(value)}</b><span>{escaped(name)}</span></div>' for name, value in tiles
    )
    sentence = (
        f"{figures['workers']} worker(s), global batch {figures['global_batch_size']}, {figures['epochs']} epoch(s), "
        f"{figures['steps']} steps, {figures['seconds']:,.1f} s"
    )
    return f'<p>{escaped(sentence)}</p><div class="tiles">{shown}</div>'


def _curves(history: Sequence[Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name.removeprefix(_VALIDATION) for scores in history for name in scores))
    cards = []
    for name in names[:_MOST_CHARTS]:
        curves = [
            Curve(f"{prefix}{name}", css, [scores.get(f"{prefix}{name}", float("nan")) for scores in history])
            for prefix, css in (("", "a"), (_VALIDATION, "b"))
            if any(f"{prefix}{name}" in scores for scores in history)
        ]
        if drawing := chart(name, curves):
            cards.append(f'<div class="card"><h3>{escaped(name)}</h3>{drawing}</div>')
    if not cards:
        return ""
    more = f"<p>and {len(names) - _MOST_CHARTS} more metrics</p>" if len(names) > _MOST_CHARTS else ""
    key = '<span class="key"><i class="a"></i>training<i class="b"></i>validation, by epoch</span>'
    return f'<h2>Curves {key}</h2><div class="charts">{"".join(cards)}</div>{more}'


def _attempts(attempts: Sequence[AttemptTime]) -> str:
    shown = attempts[-_MOST_ATTEMPTS:]
    rows = [
        (
            f"attempt {attempt.number}",
            [
                ("wait", attempt.rendezvous, f"rendezvous: {attempt.rendezvous:.1f} s"),
                ("start", attempt.start_up, f"start-up: {attempt.start_up:.1f} s"),
                ("good", attempt.training - attempt.lost, f"training: {attempt.training - attempt.lost:.1f} s"),
                ("lost", attempt.lost, f"steps that were made again: {attempt.lost:.1f} s"),
            ],
        )
        for attempt in shown
    ]
    key = "".join(
        f'<i class="{css}"></i>{name}'
        for css, name in (("wait", "rendezvous"), ("start", "start-up"), ("good", "training"), ("lost", "lost"))
    )
    cells = [
        [
            attempt.number, attempt.workers, f"{attempt.step_from} to {attempt.step_to}",
            *(f"{seconds:.1f}" for seconds in (attempt.rendezvous, attempt.start_up, attempt.training, attempt.lost)),
            attempt.end or "done",
        ]
        for attempt in shown
    ]  # fmt: skip
    titles = ["attempt", "workers", "steps", "rendezvous (s)", "start-up (s)", "training (s)", "lost (s)", "ended"]
    count = "one attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"
    counted = f"{goodput(attempts) or 0.0:.0%}: the share of their time in steps that counted"
    return (
        f'<h2>Attempts <span class="key">{key}</span></h2><p>{count}; goodput {counted}</p>'
        f'<div class="card">{time_line(rows)}</div>'
        f'<div class="wide">{_table(titles, cells)}</div>'
    )


def _predictions(found: Predictions) -> str:
    looked = f"the first {found.examples:,} of the {found.of:,}" if found.examples < found.of else f"all {found.of:,}"
    looked = f"{looked} {found.split} examples"
    if found.wrong is None:
        if not found.misses:
            return ""
        return f"<h2>Farthest from the label</h2><p>of {escaped(looked)}</p>{_misses(found.misses)}"
    parts = [f"<h2>Confusion</h2><p>{found.wrong:,} of {escaped(looked)} got another class than their label</p>"]
    if found.classes <= _MOST_CLASSES:
        classes = range(found.classes)
        matrix = [[found.confusion.get((label, told), 0) for told in classes] for label in classes]
        parts.append(f'<div class="wide">{_matrix(matrix)}</div>')
    else:
        pairs = [(-count, label, told) for (label, told), count in found.confusion.items() if label != told]
        cells = [[label, told, -less] for less, label, told in sorted(pairs)[:_MOST_PAIRS]]
        parts.append(_table(["label", "taken for", "times"], cells))
    if found.misses:
        parts.append(f"<h2>Examples that it got wrong</h2><p>the first {len(found.misses)}</p>{_misses(found.misses)}")
    return "".join(parts)


def _matrix(matrix: Sequence[Sequence[int]]) -> str:
    heads = "".join(f"<th>{told}</th>" for told in range(len(matrix)))
    rows = []
    for label, row in enumerate(matrix):
        most = max(sum(row), 1)
        cells = "".join(
            f'<td style="background:rgba({"46,158,107" if label == told else "214,69,69"},'
            f'{min(1.0, count / most * (0.6 if label == told else 4)):.2f})">{count or ""}</td>'
            for told, count in enumerate(row)
        )
        rows.append(f"<tr><th>{label}</th>{cells}</tr>")
    return f'<table class="matrix"><tr><th>label \\ taken for</th>{heads}</tr>{"".join(rows)}</table>'


def _misses(misses: Sequence[Miss]) -> str:
    if any(miss.picture is None for miss in misses):
        cells = [[miss.index, miss.label, miss.predicted, miss.values] for miss in misses]
        return f'<div class="wide">{_table(["example", "label", "told", "input"], cells)}</div>'
    figures = (
        f'<figure><img alt="example {miss.index}" src="data:image/png;base64,{_base64(miss.picture)}"><figcaption>'
        f"{escaped(miss.label)}, told {escaped(miss.predicted)}<br>example {miss.index}</figcaption></figure>"
        for miss in misses
    )
    return f'<div class="misses">{"".join(figures)}</div>'


def _base64(picture: bytes | None) -> str:
    return base64.b64encode(picture or b"").decode()


def _flags(flags: Sequence[tuple[str, object, bool]]) -> str:
    def rows(given: bool) -> list[list[object]]:
        return [[f"--{name}", redacted(str(value))] for name, value, other in flags if other is given]

    changed = _table(["flag", "value"], rows(True)) if rows(True) else "<p>all as by default</p>"
    rest = f"<details><summary>the others, as by default</summary>{_table(['flag', 'value'], rows(False))}</details>"
    return f'<h2>Flags</h2><div class="wide">{changed}{rest}</div>'


def _versions(figures: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return (
        f"<h2>Versions and digest</h2><p>{escaped(versions)}</p>"
        f"<p>weights_sha256 <code>{escaped(figures['weights_sha256'])}</code></p>"
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escaped(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
