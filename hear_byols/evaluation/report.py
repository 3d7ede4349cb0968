"""Scores as Markdown, CSV and one self-contained HTML page, beside published scores of the same task."""

import base64
import csv
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_byols._util.files import atomic_path, writing
from hear_byols._util.imports import require
from hear_byols.evaluation.run import Outcome
from hear_byols.evaluation.scores import MINIMIZED
from hear_byols.evaluation.tables import Table, cell, make_tables

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

_OURS, _PUBLISHED = "#0b6fa4", "#b5b5b5"

_Overview = tuple[str, list[str], list[list[str]]]  # a paragraph, and header and rows of the table below it


def write_report(outcome: Outcome, folder: Path, order: Sequence[str] = ()) -> str:
    """Write ``report.md``, ``report.html``, ``scores.csv`` and ``figures/``; return the overview in Markdown.

    Models stand in the overview in the order that is given, others behind them.

    Raises:
        OutputError: the folder cannot be written.
    """
    tables = make_tables(outcome.records)
    overviews = [_overview(tables, probe, order) for probe in dict.fromkeys(table.probe for table in tables)]
    if outcome.failures:
        rows = [[each.model or "all", each.task, " ".join(each.reason.split())] for each in outcome.failures]
        overviews.append(("Not evaluated:", ["model", "task", "reason"], rows))
    summary = "\n".join(f"{text}\n\n{_pipes(header, rows)}" for text, header, rows in overviews) or "No scores.\n"
    with writing(folder):
        pictures = {table.title: bar_chart(table) for table in tables}
        for title, png in pictures.items():
            with atomic_path(folder / "figures" / f"{_slug(title)}.png") as part:
                part.write_bytes(png)
        texts = {"report.md": _markdown(tables, summary), "report.html": _page(tables, overviews, pictures)}
        for name, text in {**texts, "scores.csv": _csv(tables)}.items():
            with atomic_path(folder / name) as part:
                part.write_text(text, encoding="utf-8")
    return summary


def _overview(tables: Sequence[Table], probe: str, order: Sequence[str]) -> _Overview:
    chosen = [table for table in tables if table.probe == probe]
    found = {(row.model, table.task): row.values for table in chosen for row in table.rows if not row.source}
    places = {model: place for place, model in enumerate(order)}
    header = ["model", *(f"{table.task} ({table.scores[0]})" for table in chosen)]
    with_mean = len(chosen) > 1 and not any(table.scores[0] in MINIMIZED for table in chosen)
    lines = []
    for model in sorted({model for model, _ in found}, key=lambda model: (places.get(model, len(places)), model)):
        values = [found.get((model, table.task), {}).get(table.scores[0], []) for table in chosen]
        cells = [cell(each, table.scores[0] in MINIMIZED) for each, table in zip(values, chosen, strict=True)]
        if with_mean:
            cells.append(cell([float(np.mean([np.mean(each) for each in values]))]) if all(values) else "")
        lines.append([model, *cells])
    return f"Scores by the {probe}:", [*header, *["mean"] * with_mean], lines


def _grid(table: Table) -> tuple[list[str], list[list[str]]]:
    names = [f"{name}{' (lower is better)' * (name in MINIMIZED)}" for name in table.scores]
    rows = []
    for row in table.rows:
        scores = [cell(row.values.get(name, []), name in MINIMIZED) for name in table.scores]
        rows.append([row.model, *scores, *row.cost, row.source or "this run"])
    return ["model", *names, "size", "speed", "memory", "source"], rows


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _markdown(tables: Sequence[Table], summary: str) -> str:
    parts = ["# Scores", _NOTE, summary.rstrip()]
    for table in tables:
        parts += [f"## {table.title}", _pipes(*_grid(table)).rstrip()]
        parts.append(f"![scores of {table.title}](figures/{_slug(table.title)}.png)")
    return "\n\n".join(parts) + "\n"


def _page(tables: Sequence[Table], overviews: Sequence[_Overview], pictures: dict[str, bytes]) -> str:
    parts = [f"<h1>Scores</h1><p>{html.escape(_NOTE)}</p>", *["<p>No scores.</p>"] * (not overviews)]
    for text, header, lines in overviews:
        parts.append(f"<p>{html.escape(text)}</p>{_html_table(header, lines, [''] * len(lines))}")
    for table in tables:
        marks = [" class=published" if row.source else "" for row in table.rows]
        title = html.escape(table.title)
        parts.append(f"<h2>{title}</h2>{_html_table(*_grid(table), marks)}")
        image = base64.b64encode(pictures[table.title]).decode()
        parts.append(f'<p><img alt="scores of {title}" src="data:image/png;base64,{image}"></p>')
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Scores</title><style>{_STYLE}</style>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[str]) -> str:
    """A table whose rows have marks; long names in its head may be broken after an underscore."""
    head = "".join(f"<th>{html.escape(cell).replace('_', '_<wbr>')}</th>" for cell in header)
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr{mark}>{line}</tr>" for mark, line in zip(marks, lines, strict=True))
    return f"<table><tr>{head}</tr>{body}</table>"


def _csv(tables: Sequence[Table]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    file.write("task,probe,model,score,mean,spread,n_seeds,size,speed,memory,source,validation\n")
    for table in tables:
        for row in table.rows:
            for name, values in row.values.items():
                spread = f"{np.std(values, ddof=1):.6f}" if len(values) > 1 else ""
                numbers = [f"{np.mean(values):.6f}", spread, len(values)]
                decided = row.validation and name == table.scores[0]
                rest = [*row.cost, row.source or "this run", f"{np.mean(row.validation):.6f}" if decided else ""]
                writer.writerow([table.task, table.probe, row.model, name, *numbers, *rest])
    return file.getvalue()


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title).strip("-")


def bar_chart(table: Table) -> bytes:
    """A PNG of the criterion's means times 100, the best on top; published scores are grey.

    Whiskers are the standard deviation over seeds.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    score = table.scores[0]
    rows = [row for row in table.rows if row.values.get(score) and np.isfinite(np.mean(row.values[score]))]
    new_figure = require("matplotlib.figure", "a chart", "eval").Figure  # no window, no state shared with the caller's
    figure = new_figure(figsize=(8, 1.2 + 0.28 * max(len(rows), 1)), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    means = [100 * float(np.mean(row.values[score])) for row in rows]
    spreads = [100 * float(np.std(row.values[score], ddof=1)) if len(row.values[score]) > 1 else 0.0 for row in rows]
    colours = [_PUBLISHED if row.source else _OURS for row in rows]
    axes.barh(places, means, color=colours, xerr=[s or np.nan for s in spreads], ecolor="black", capsize=3)
    axes.set_yticks(places, [f"{row.model} [{row.source}]" if row.source else row.model for row in rows])
    for row, place, mean, spread in zip(rows, places, means, spreads, strict=True):
        text = cell(row.values[score], score in MINIMIZED)
        axes.annotate(text, (mean + spread, place), (4, 0), textcoords="offset points", va="center", size=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max([*means, 1e-9]) * 1.18)
    axes.set_xlabel(f"{score} x 100{', lower is better' * (score in MINIMIZED)}")
    axes.set_title(table.title, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
