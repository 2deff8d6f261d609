"""Reports of replays and load runs as one HTML file: tables and plots inside, nothing to fetch."""

import html
import io
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from simulators.load import HEADS, LoadConfig, LoadResult
from simulators.outcome import Moment, ReplayResult
from simulators.replay_config import ReplayConfig
from simulators.thresholds import Threshold

TAILS: Final = ("p50", "p95", "p99", "max")
STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.verdict{display:inline-block;padding:.1rem .6rem;border-radius:.3rem;color:#fff}
.good{background:#1a7f4b}.bad{background:#b3261e}
table{border-collapse:collapse}td,th{padding:.2rem 0 .2rem 1.2rem;text-align:right;border-bottom:1px solid #dde3ea}
td:first-child,th:first-child{padding-left:0;text-align:left}td{font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto}figure{margin:1rem 0}summary{cursor:pointer}
.sides{display:flex;flex-wrap:wrap;gap:0 4rem}.sides>div{flex:1 1 22rem}.sides h2:first-child{margin-top:1rem}
.missed{color:#b3261e;font-weight:600}p.note{color:#51606f;max-width:44rem}
"""
SIZE: Final = (9.0, 2.6)
FEW: Final = 40
"""Up to so many points are marked one by one."""
LEAST: Final = 3
"""Fewer points make no plot."""
INK: Final = "#22577a"
OTHER: Final = "#e07a1f"
# The same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "quayflow"

LIMITS: Final = {
    "broker": "The broker: for most of the time it took nothing more, so that messages had to wait.",
    "generator": "The generator: messages left late though the broker would have taken them. Use more machines.",
    "ingest": "Ingest: fewer messages reached the journal than left.",
    "store": "The store: its oldest message not yet stored was too old.",
}
STAGES: Final = (
    "Behind: how late messages left, which 99 in 100 did not exceed. Acknowledged: from when they were due until the "
    "broker had acknowledged them. CPU: the generator's own, of one core."
)
Row = Sequence[str]


def replay_report(config: ReplayConfig, result: ReplayResult) -> str:
    """Return the report of a replay."""
    good = result.passed and not result.lost and (result.read_back is None or result.read_back.good)
    counts = [
        ("messages", f"{result.messages:,}"),
        ("sent", f"{result.sent:,}"),
        ("acknowledged", f"{result.acked:,}"),
        ("stored", "not asked" if result.stored is None else f"{result.stored:,}"),
        ("lost", f"{result.lost:,}"),
        ("sent again", f"{result.resent:,}"),
        ("refused by the broker", f"{result.refused:,}"),
        ("reconnects", f"{result.reconnects:,}"),
        ("too large for the broker", f"{result.oversize:,}"),
        ("rows that cannot be read", f"{result.bad_rows:,}"),
        ("duration", f"{result.elapsed_s:,.1f} s"),
        ("rate", f"{result.rate:,.0f} messages/s"),
    ]
    left = "<h2>Messages</h2>" + _table(("", ""), counts)
    right = _thresholds(config.conditions, result.thresholds) + _replay_times(config, result)
    parts = [f'<div class="sides"><div>{left}</div><div>{right}</div></div>', "<h2>Over time</h2>"]
    if len(result.timeline) > LEAST:
        parts += [_rate_plot(result.timeline), _behind_plot(result.timeline) if math.isfinite(config.speed) else ""]
    else:
        parts.append(f"<p>The run was over after {result.elapsed_s:,.1f} s: too short for a plot.</p>")
    if result.read_back is not None:
        back = result.read_back
        agreed = f"{back.series - back.mismatches:,} of {back.series:,} checksums of devices and metrics agree"
        beside = f" {back.unchecked:,} messages have none." if back.unchecked else ""
        parts += ["<h2>Read back</h2>", f"<p>{agreed}.{beside}</p>", _list(back.notes)]
    if result.bad_row_notes:
        parts += ["<h2>Skipped</h2>", _list(result.bad_row_notes)]
    parts += ["<h2>Devices</h2>", _devices(result.devices)]
    speed = f"{config.speed:g} times as fast as recorded" if math.isfinite(config.speed) else "as fast as possible"
    how = f"to {config.broker.host}:{config.broker.port}, {speed}, {config.clients} connections, QoS {config.qos}"
    moved = "times as recorded" if config.shift == "none" else "times moved"
    times = f"{moved}: {_to_ms(result.first_time)} to {_to_ms(result.last_time)}"
    return page(f"Replay of {config.path.name}", f"{how}; {times}", "".join(parts), good=good)


def _replay_times(config: ReplayConfig, result: ReplayResult) -> str:
    """Return how late messages left and how long they took, with what that means."""
    lags = [("left late by", result.behind_ms)] if math.isfinite(config.speed) else []
    lags += [("acknowledged after", result.acked_ms)]
    lags += [("delivered after", result.e2e_ms)] if result.watched else []
    rows = [(name, *(f"{tails[tail]:,.1f}" for tail in TAILS)) for name, tails in lags]
    since = "due" if math.isfinite(config.speed) else "handed to its connection"
    note = f"From when a message was {since} until the broker had acknowledged it"
    watched = f", or until a subscriber had it, which followed {result.watched:,} of them." if result.watched else "."
    return f'<h2>Times in ms</h2>{_table(("", *TAILS), rows)}<p class="note">{note}{watched}</p>'


def _thresholds(conditions: Sequence[Threshold], met: Sequence[Mapping[str, Any]]) -> str:
    """Return each condition with the figure that it met."""
    if not met:
        return ""
    rows = [
        (each["threshold"], condition.shown(each["value"]), "met" if each["ok"] else "missed")
        for condition, each in zip(conditions, met, strict=True)
    ]
    return "<h2>Thresholds</h2>" + _table(("condition", "figure", ""), rows)


def _devices(devices: Mapping[str, Mapping[str, float]]) -> str:
    """Return the account of each device: those of which something is missing first, the others folded away."""
    rows = [(name, f"{each['sent']:,.0f}", f"{each['acked']:,.0f}") for name, each in sorted(devices.items())]
    missing = [row for row in rows if row[1] != row[2]]
    heads = ("device", "sent", "acknowledged")
    open_ = _table(heads, missing) if missing else ""
    words = (
        f"{len(rows):,} devices, of {len(missing):,} of which messages are missing"
        if missing
        else (f"{len(rows):,} devices, everything sent was acknowledged")
    )
    return f"{open_}<details><summary>{words}</summary>{_table(heads, rows)}</details>"


def _to_ms(moment: str) -> str:
    """Return an RFC 3339 text without what is below a millisecond."""
    return re.sub(r"(\.\d{3})\d+", r"\1", moment)


def load_report(config: LoadConfig, result: LoadResult) -> str:
    """Return the report of a load run."""
    steps = config.shape.kind == "step"
    good = (result.kept if steps else not result.limit) and all(each["ok"] for each in result.thresholds)
    counts = [
        ("due", f"{result.messages:,}"),
        ("sent", f"{result.sent:,}"),
        ("acknowledged", f"{result.acked:,}"),
        ("taken by ingest", "not asked" if result.stored is None else f"{result.stored:,}"),
        ("never sent or not acknowledged", f"{result.lost:,}"),
        ("refused by the broker", f"{result.refused:,}"),
        ("reconnects", f"{result.reconnects:,}"),
        ("bytes per message", f"{result.bytes_per_message:,.0f}"),
        ("highest rate kept", f"{result.knee:,.0f} messages/s"),
        ("limit", result.limit or "none found"),
    ]
    forms = [
        (each["class"], each["kind"], str(each["metrics"]), f"{100 * each['share']:.1f} %") for each in result.forms
    ]
    asked = [stage.asked for stage in result.stages]
    left = "<h2>Messages</h2>" + _table(("", ""), counts)
    right = _thresholds(config.conditions, result.thresholds) + _limits(result)
    parts = [f'<div class="sides"><div>{left}</div><div>{right}</div></div>']
    parts += [
        "<h2>Stages</h2>",
        _table(HEADS, (stage.cells() for stage in result.stages)),
        f'<p class="note">{STAGES}</p>',
    ]
    if len(asked) > 1:
        sent = [stage.sent_rate for stage in result.stages]
        late = [stage.behind_ms["p99"] for stage in result.stages]
        parts.append(plot("Sent", "asked, messages/s", "messages/s", {"sent": (asked, sent), "asked": (asked, asked)}))
        parts.append(plot("Behind schedule, p99", "asked, messages/s", "ms", {"behind": (asked, late)}))
    parts += ["<h2>What was sent</h2>", _table(("class", "form", "metrics", "share"), forms)]
    where = f"{config.broker.host}:{config.broker.port}, {config.devices:,} devices, {config.clients} connections"
    return page(
        f"Load {config.rate}", f"{where}, QoS {config.qos}, profile {config.profile}", "".join(parts), good=good
    )


def page(title: str, subtitle: str, body: str, *, good: bool) -> str:
    """Return a whole page around a body."""
    verdict = '<span class="verdict good">passed</span>' if good else '<span class="verdict bad">failed</span>'
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{html.escape(title)} {verdict}</h1><p>{html.escape(subtitle).replace('; ', '<br>')}</p>{body}"
        "</body></html>\n"
    )


def _table(head: Row, rows: Iterable[Row]) -> str:
    def cells(row: Row) -> str:
        kinds = (' class="missed"' if each == "missed" else "" for each in row)
        return (
            f"<tr>{''.join(f'<td{kind}>{html.escape(each)}</td>' for kind, each in zip(kinds, row, strict=True))}</tr>"
        )

    titles = "".join(f"<th>{html.escape(each)}</th>" for each in head) if any(head) else ""
    return f"<table>{f'<tr>{titles}</tr>' if titles else ''}{''.join(cells(row) for row in rows)}</table>"


def _limits(result: LoadResult) -> str:
    """Return what limits, in words."""
    found = [LIMITS[limit] for limit in dict.fromkeys(stage.limit for stage in result.stages) if limit]
    words = found or ["Nothing was found to limit: every stage kept its rate."]
    return "<h2>What limits</h2>" + "".join(f'<p class="note">{html.escape(each)}</p>' for each in words)


def _list(notes: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>"


def plot(title: str, x_title: str, y_title: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Return a line plot as inline SVG: name → x and y."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for (name, (x, y)), colour in zip(lines.items(), (INK, OTHER, "#6a4c93", "#3c8d5a"), strict=False):
        axes.plot(x, y, label=name, color=colour, linewidth=1.6, marker="o" if len(x) <= FEW else None, markersize=3)
    axes.set(title=title, xlabel=x_title, ylabel=y_title)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def _rate_plot(timeline: Sequence[Moment]) -> str:
    pairs = list(itertools.pairwise(timeline))
    at = [later.at_s for _, later in pairs]
    steps = [max(later.at_s - earlier.at_s, 1e-9) for earlier, later in pairs]
    sent = [(later.sent - earlier.sent) / step for (earlier, later), step in zip(pairs, steps, strict=True)]
    acked = [(later.acked - earlier.acked) / step for (earlier, later), step in zip(pairs, steps, strict=True)]
    return plot("Rate", "s", "messages/s", {"sent": (at, sent), "acknowledged": (at, acked)})


def _behind_plot(timeline: Sequence[Moment]) -> str:
    at = [moment.at_s for moment in timeline]
    return plot("Left late by, at most", "s", "ms", {"behind": (at, [1e3 * moment.behind_s for moment in timeline])})
