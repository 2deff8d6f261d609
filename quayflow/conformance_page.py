"""A conformance report for people: as lines for a terminal, and as a page that needs no other file."""

import html
from collections.abc import Iterator
from typing import Any, Final

from quayflow.captures import PLACEHOLDER
from quayflow.conformance import ERROR, Finding, Report

SIGNS: Final = {"error": "✘", "warning": "!", "note": "·"}
STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1c2733}
h1{font-size:1.4rem;margin:0}h1 code{font-size:1.2rem}.whole{white-space:nowrap}
h2{font-size:1.05rem;margin:1.6rem 0 .4rem}p{margin:.3rem 0}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .8rem .3rem 0;vertical-align:top;border-bottom:1px solid #d5dbe3}
th{font-weight:600;color:#55657a;white-space:nowrap}td.number,th.number{text-align:right}
code{font:13px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
.verdict{font-weight:600}.good{color:#12713a}.bad,.error td:first-child{color:#b00020}
.warning td:first-child{color:#8a5a00}.note td:first-child{color:#55657a}
@media(prefers-color-scheme:dark){body{background:#12171d;color:#dde4ec}td,th{border-color:#2c3743}
th,.note td:first-child{color:#93a3b5}.good{color:#5fd08d}.bad,.error td:first-child{color:#ff7a8a}
.warning td:first-child{color:#f0b95a}}
"""


def as_lines(report: Report) -> Iterator[str]:
    """Yield the report for a terminal."""
    for row in report.devices:
        yield (
            f"{row['uid']}{_unnamed(row)}: {', '.join(row['formats'])}, {_messages(row['messages'])}, {_rate(row)}, "
            f"clock {_skew(row)}, {_numbers(row)}"
        )
    for each in report.findings:
        place = " ".join(filter(None, (each.topic, each.pointer)))
        times = ", ".join(filter(None, (f"{each.count}x" if each.count > 1 else "", _first(each))))
        where = " ".join(filter(None, (place, f"({times})" if times else "")))
        yield f"{SIGNS[each.severity]} {each.check:<9} {where}{': ' if where else ''}{each.detail}"
    if not report.messages:
        yield "✘ no message came"
    yield f"{report.source}: {_messages(report.messages)}, {_count(report)}: {_verdict(report)}"


def as_page(report: Report) -> str:
    """Return the report as a page that needs no other file."""
    devices = "".join(
        f"<tr><td><code>{html.escape(row['uid'])}</code>{_unnamed(row)}<td>{', '.join(row['formats'])}"
        f"<td class=number>{row['messages']}<td>{_rate(row)}<td>{_skew(row)}"
        f"<td>{_numbers(row)}</tr>"
        for row in report.devices
    )
    rows = "".join(
        f"<tr class={each.severity}><td class=whole>{SIGNS[each.severity]} {each.severity}<td>{each.check}"
        f"<td><code>{html.escape(each.topic) or '-'}</code><td><code>{html.escape(each.pointer) or '-'}</code>"
        f"<td class=number>{each.count}<td class=whole>{each.first or '-'}<td>{html.escape(each.detail)}</tr>"
        for each in report.findings
    )
    found = (
        f"<h2>Findings</h2><table><tr><th>severity<th>check<th>topic or device<th>pointer"
        f"<th class=number>times<th>first at<th>what</tr>{rows}</table>"
        if rows
        else "<p>Nothing was found.</p>"
        if report.messages
        else "<p>No message came.</p>"
    )
    listed = (
        "<h2>Devices</h2><table><tr><th>device<th>format<th class=number>messages<th>rate<th>clock"
        f"<th>numbers</tr>{devices}</table>"
        if devices
        else ""
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Conformance: {html.escape(report.source)}</title><style>{STYLE}</style>"
        f"<h1><code>{html.escape(report.source)}</code></h1>"
        f"<p class='verdict {'good' if report.conforms else 'bad'}'>{_verdict(report)}</p>"
        f"<p>{_messages(report.messages)}, {_count(report)}</p>{listed}{found}"
    )


def _verdict(report: Report) -> str:
    return f"{'conforms' if report.conforms else 'does not conform'} as {report.device_class}"


def _count(report: Report) -> str:
    errors = sum(each.severity == ERROR for each in report.findings)
    others = sum(each.severity == "warning" for each in report.findings)
    return f"{errors or 'no'} error{'s' * (errors != 1)}, {others or 'no'} warning{'s' * (others != 1)}"


def _messages(number: int) -> str:
    return f"{number:,} message{'s' * (number != 1)}"


def _rate(row: dict[str, Any]) -> str:
    return "rate unknown" if row["rate_hz"] is None else f"{row['rate_hz']:g}/s"


def _unnamed(row: dict[str, Any]) -> str:
    return " (its messages name no device)" if row["uid"].endswith(f"/{PLACEHOLDER}") else ""


def _numbers(row: dict[str, Any]) -> str:
    return f"{row['numbered']} numbered, {row['missing']} missing" if row["numbered"] else "not numbered"


def _skew(row: dict[str, Any]) -> str:
    skew = row["skew_s"]
    if skew is None:
        return "unknown"
    return f"{abs(skew):g} s {'behind' if skew > 0 else 'ahead'}" if skew else "right"


def _first(finding: Finding) -> str:
    if not finding.first:
        return ""
    return f"first {finding.first}" if finding.count > 1 else finding.first
