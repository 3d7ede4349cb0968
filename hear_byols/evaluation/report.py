"""Scores as Markdown, CSV and one self-contained HTML page, beside published scores of the same task."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_byols._util.files import atomic_path, writing
from hear_byols.evaluation.figures import Bar, bar_chart
from hear_byols.evaluation.run import Outcome
from hear_byols.evaluation.scores import MINIMIZED
from hear_byols.evaluation.tables import Row, Table, cell, make_tables

_NOTE = (
    "Scores are fractions of 1 times 100, cut after one decimal towards the worse. ± is the standard deviation over "
    "seeds. Speed is seconds of audio a second, within the model; memory is the process's peak."
)
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border-bottom:1px solid #ccc;padding:.2em .5em;text-align:left}"
    "th{font-size:.8em;vertical-align:bottom}tr.published{color:#666}img{max-width:100%}"
)


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Args:
        folder: with ``report.md``, ``report.html``, ``scores.csv`` and ``figures/``.
        summary: the overview in Markdown.
    """

    folder: Path
    summary: str


def write_report(outcome: Outcome, folder: Path, order: Sequence[str] = ()) -> WrittenReport:
    """Write everything.

    Args:
        outcome: of a run.
        folder: for the files.
        order: of the models in the overview.

    Raises:
        OutputError: the folder cannot be written.
    """
    tables = make_tables(outcome.records)
    overviews = [_overview(tables, probe, order) for probe in dict.fromkeys(table.probe for table in tables)]
    summary = "\n".join(filter(None, [*overviews, _failures(outcome)])) or "No scores.\n"
    with writing(folder):
        pictures = {table.title: _picture(table) for table in tables}
        for title, png in pictures.items():
            with atomic_path(folder / "figures" / f"{_slug(title)}.png") as part:
                part.write_bytes(png)
        _write(folder / "report.md", _markdown(tables, summary))
        _write(folder / "report.html", _page(tables, summary, pictures))
        _write(folder / "scores.csv", _csv(tables))
    return WrittenReport(folder, summary)


def _overview(tables: Sequence[Table], probe: str, order: Sequence[str]) -> str:
    chosen = [table for table in tables if table.probe == probe]
    found = {(row.model, table.task): row.values for table in chosen for row in table.rows if not row.source}
    models = sorted(
        {model for model, _ in found}, key=lambda m: (list(order).index(m) if m in order else len(order), m)
    )
    header = ["model", *(f"{table.task} ({table.scores[0]})" for table in chosen)]
    up = [table for table in chosen if table.scores[0] not in MINIMIZED]
    with_mean = len(up) == len(chosen) > 1
    lines = []
    for model in models:
        values = [found.get((model, table.task), {}).get(table.scores[0], []) for table in chosen]
        cells = [cell(each, table.scores[0] in MINIMIZED) for each, table in zip(values, chosen, strict=True)]
        if with_mean:
            cells.append(cell([float(np.mean([np.mean(each) for each in values]))]) if all(values) else "")
        lines.append([model, *cells])
    return f"Scores by the {probe}:\n\n" + _pipes([*header, *["mean"] * with_mean], lines)


def _failures(outcome: Outcome) -> str:
    if not outcome.failures:
        return ""
    rows = [[each.model or "all", each.task, " ".join(each.reason.split())] for each in outcome.failures]
    return "Not evaluated:\n\n" + _pipes(["model", "task", "reason"], rows)


def _cells(table: Table, row: Row) -> list[str]:
    scores = [cell(row.values.get(name, []), name in MINIMIZED) for name in table.scores]
    return [row.model, *scores, *row.cost, row.source or "this run"]


def _header(table: Table) -> list[str]:
    scores = [f"{name}{' (lower is better)' * (name in MINIMIZED)}" for name in table.scores]
    return ["model", *scores, "size", "speed", "memory", "source"]


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _markdown(tables: Sequence[Table], summary: str) -> str:
    parts = ["# Scores", _NOTE, summary.rstrip()]
    for table in tables:
        parts += [f"## {table.title}", _pipes(_header(table), [_cells(table, row) for row in table.rows]).rstrip()]
        parts.append(f"![scores of {table.title}](figures/{_slug(table.title)}.png)")
    return "\n\n".join(parts) + "\n"


def _page(tables: Sequence[Table], summary: str, pictures: dict[str, bytes]) -> str:
    parts = [f"<h1>Scores</h1><p>{html.escape(_NOTE)}</p>", _summary_html(summary)]
    for table in tables:
        rows = "".join(
            f"<tr{' class=published' if row.source else ''}>{_html_cells('td', _cells(table, row))}</tr>"
            for row in table.rows
        )
        title = html.escape(table.title)
        parts.append(f"<h2>{title}</h2><table><tr>{_html_cells('th', _header(table))}</tr>{rows}</table>")
        image = base64.b64encode(pictures[table.title]).decode()
        parts.append(f'<p><img alt="scores of {title}" src="data:image/png;base64,{image}"></p>')
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Scores</title><style>{_STYLE}</style>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _summary_html(summary: str) -> str:
    """The overview's Markdown tables, which this module wrote itself, as HTML."""
    parts, rows = [], []
    for line in [*summary.splitlines(), ""]:
        if line.startswith("| "):
            rows.append([c.replace("\\|", "|") for c in re.split(r"(?<!\\) \| ", line[2:].removesuffix(" |"))])
            continue
        if rows:
            body = "".join(f"<tr>{_html_cells('td', row)}</tr>" for row in rows[2:])
            parts.append(f"<table><tr>{_html_cells('th', rows[0])}</tr>{body}</table>")
            rows = []
        if line:
            parts.append(f"<p>{html.escape(line)}</p>")
    return "".join(parts)


def _html_cells(tag: str, cells: Sequence[str]) -> str:
    """Cells; long names in a head may be broken after an underscore."""
    underscore = "_<wbr>" if tag == "th" else "_"
    return "".join(f"<{tag}>{html.escape(cell).replace('_', underscore)}</{tag}>" for cell in cells)


def _csv(tables: Sequence[Table]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["task", "probe", "model", "score", "mean", "spread", "n_seeds"]
    head += ["size", "speed", "memory", "source", "validation"]
    writer.writerow(head)
    for table in tables:
        for row in table.rows:
            for name, values in row.values.items():
                spread = f"{np.std(values, ddof=1):.6f}" if len(values) > 1 else ""
                numbers = [f"{np.mean(values):.6f}", spread, len(values)]
                decided = row.validation and name == table.scores[0]
                rest = [*row.cost, row.source or "this run", f"{np.mean(row.validation):.6f}" if decided else ""]
                writer.writerow([table.task, table.probe, row.model, name, *numbers, *rest])
    return file.getvalue()


def _picture(table: Table) -> bytes:
    score = table.scores[0]
    rows = [row for row in table.rows if row.values.get(score) and not math.isnan(np.mean(row.values[score]))]
    minimized = score in MINIMIZED
    bars = []
    for row in rows:
        label = f"{row.model} [{row.source}]" if row.source else row.model
        bars.append(Bar(label, row.values[score], cell(row.values[score], minimized), bool(row.source)))
    return bar_chart(bars, table.title, f"{score} x 100{', lower is better' * minimized}")


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title).strip("-")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")
