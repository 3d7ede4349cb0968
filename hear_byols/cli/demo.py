"""``hear-byols demo``: makes its own example audio, embeds it and shows which sounds are neighbours."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_byols._util.files import atomic_path
from hear_byols.cli.options import add_command, add_device, add_model, print_failures

_DESCRIPTION = """\
Make eight short sounds, two of a kind, embed them as 'embed' does, print each one's nearest neighbour, and write a page
with a picture and the sounds."""
_ALIKE, _UNLIKE = "31,119,180", "214,39,40"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>hear-byols demo</title>
<style>body{font-family:sans-serif;margin:2em}td,th{padding:.3em .6em;font-weight:normal}td{text-align:right;width:4em}
th:first-child{text-align:left}audio{height:2em}</style>
<h1>How alike the embeddings are</h1>
<p>Cosines of the vectors less their mean: blue is alike, red is unlike.</p>
<table><tr><th></th>HEAD</tr>
ROWS</table></html>
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "demo", "embed example audio", run, _DESCRIPTION)
    parser.add_argument("--output", "-o", default="hear-byols-demo", metavar="DIR", help="default: %(default)s")
    add_model(parser)
    add_device(parser, quiet="no progress bar")


def run(args: argparse.Namespace) -> int:
    from hear_byols.cli.demo_sounds import write_examples
    from hear_byols.extraction.extract import embed_to_folder
    from hear_byols.extraction.index import writing

    output = Path(args.output)
    with writing(output):
        audio = write_examples(output / "audio")
    report = embed_to_folder(
        audio, output, model=args.model, device=args.device, overwrite=True, progress=not args.quiet
    )
    if print_failures(report.failures, "not embedded"):
        return 1
    vectors = np.stack([np.load(output / "embeddings" / f"{path.name}.npz")["embedding"] for path in audio])
    centred = vectors - np.mean(vectors, axis=0)  # less what all sounds have in common
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    names, similarities = [path.name for path in audio], units @ units.T
    width = max(map(len, names))
    print(f"{'sound':<{width}}  {'nearest of the others':<{width}}  cosine  next")
    for name, row in zip(names, similarities, strict=True):
        _, first, second = np.argsort(-row, kind="stable")[:3]
        print(f"{name:<{width}}  {names[first]:<{width}}  {row[first]:>6.2f}  {row[second]:.2f}")
    page = output / "demo.html"
    with atomic_path(page) as part:
        part.write_text(_page(names, similarities), encoding="utf-8")
    print(f"\npicture, with the sounds: {page}")
    print(f"embeddings: {output / 'embeddings'}, as {output / 'manifest.json'} says")
    return 0


def _page(names: Sequence[str], similarities: np.ndarray) -> str:
    """The similarities as a coloured table, beside players of the sounds."""
    rows = []
    for name, row in zip(names, similarities, strict=True):
        colours = [f"rgba({_ALIKE if value > 0 else _UNLIKE},{abs(value):.2f})" for value in row]
        cells = (f'<td style="background:{c}">{value:.2f}</td>' for c, value in zip(colours, row, strict=True))
        rows.append(f'<tr><th>{name}<br><audio controls src="audio/{name}"></audio></th>{"".join(cells)}</tr>')
    head = "".join(f"<th>{name.rpartition('.')[0].replace('_', ' ')}</th>" for name in names)
    return _PAGE.replace("HEAD", head).replace("ROWS", "\n".join(rows))
