"""Labels of events in time as people's tools write them: CSV, Audacity labels, Raven selection tables, Praat TextGrids.

Times are in seconds in the files and in milliseconds in events. A label comes back as it was, but for tabs and line
breaks, which Audacity's and Raven's files have no way to hold: they become blanks.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hear_byols._util.files import output_path
from hear_byols._util.tables import guarded, unguarded, write_table
from hear_byols.errors import InputError, OptionError
from hear_byols.evaluation.tasks import Event
from hear_byols.extraction.files import PathLike

SUFFIXES = {"csv": ".csv", "audacity": ".txt", "raven": ".selections.txt", "textgrid": ".TextGrid"}
_RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Annotation", "Score"),
)
# Names of the columns of start, end and label.
_OF_RAVEN = (("begin time (s)",), ("end time (s)",), ("annotation", "label", "species", "common name", "tags"))
_OF_CSV = (("start", "start_s", "onset", "begin"), ("end", "end_s", "offset"), ("label",))


def find_label_file(folder: PathLike, recording: Path) -> Path | None:
    """The label file of a recording: called as it is, with or without its extension, and one of the formats' endings.

    Raises:
        OptionError: there are several.
    """
    stems = (recording.name, recording.stem)
    endings = (*SUFFIXES.values(), ".textgrid", ".tsv", ".Table.1.selections.txt")
    found = {path.resolve(): path for s in stems for e in endings if (path := Path(folder, s + e)).is_file()}
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found.values()))
        raise OptionError(f"{recording.name} has several label files in {folder}: {names}; keep one")
    return next(iter(found.values()), None)


def read_events(path: PathLike) -> list[Event]:
    """Read a label file; its format is told from its ending and its first line.

    Raises:
        InputError: it cannot be read, or holds times that are none; names the label.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        by_praat = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # with labels that are no ASCII
        text = content.decode("utf-16" if by_praat else "utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read as labels ({error})") from error
    first = text.lstrip().split("\n", 1)[0].lower()
    if path.suffix.lower() == ".textgrid" or "ootextfile" in first:
        rows = _read_textgrid(text)
    elif path.suffix.lower() == ".csv":
        rows = _read_table(text, _OF_CSV)
    elif "begin time (s)" in first:
        rows = _read_table(text, _OF_RAVEN, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = _read_audacity(text)
    try:
        events = [Event(label, 1000 * start, 1000 * end) for start, end, label in rows if label]
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise InputError(f"{path}: not a label file of its kind ({error})") from error
    wrong = [e for e in events if not (math.isfinite(e.start) and math.isfinite(e.end) and 0 <= e.start <= e.end)]
    if wrong:
        raise InputError(f"{path}: {wrong[0].label!r} has the times {wrong[0].start} to {wrong[0].end} ms")
    return sorted(events, key=lambda event: (event.start, event.end, event.label))


def write_events(
    path: Path, form: str, events: Sequence[Event], scores: Sequence[float], seconds: float, nyquist: float = 8000
) -> None:
    """Write a label file.

    Args:
        path: where.
        form: one of :data:`SUFFIXES`.
        events: in order of their starts.
        scores: of the events, 0 to 1.
        seconds: length of the recording, for Praat.
        nyquist: upper frequency of the selections in Hz, for Raven.

    Raises:
        OptionError: an unknown format.
        OutputError: it cannot be written.
    """
    if form not in SUFFIXES:
        raise OptionError(f"label files are {', '.join(SUFFIXES)}; got {form!r}")
    spans = [(_s(each.start), _s(each.end), each.label, score) for each, score in zip(events, scores, strict=True)]
    if form == "csv":
        rows = [[float(start), float(end), label, round(score, 4)] for start, end, label, score in spans]
        write_table(path, ["start_s", "end_s", "label", "score"], rows)
        return
    if form == "textgrid":
        lines = list(_textgrid(events, seconds))
    elif form == "audacity":
        lines = [f"{start}\t{end}\t{_flat(label)}" for start, end, label, _ in spans]
    else:
        lines = ["\t".join(_RAVEN)]
        for i, (start, end, label, score) in enumerate(spans, 1):
            label = guarded(_flat(label))
            lines.append(f"{i}\tSpectrogram 1\t1\t{start}\t{end}\t0\t{nyquist:g}\t{label}\t{score:.4f}")
    text = "".join(line + "\n" for line in lines)
    with output_path(path) as part:
        part.write_text(text.encode("utf-8", "replace").decode("utf-8"), encoding="utf-8", newline="")


def _s(ms: float) -> str:
    """Milliseconds as seconds."""
    return f"{ms / 1000:.6f}"


def _flat(label: str) -> str:
    return re.sub(r"\s", " ", label)


def _read_table(text: str, columns: Sequence[Sequence[str]], **dialect: Any) -> Iterator[tuple[float, float, str]]:
    """Start, end and label, each from the first column that bears one of its names."""
    reader = csv.DictReader(text.splitlines(), **dialect)
    names = reader.fieldnames or ()
    found = [next((name for name in names if name.strip().lower() in accepted), None) for accepted in columns]
    if None in found:
        raise KeyError(f"no column {' or '.join(columns[found.index(None)])} among {', '.join(names)[:100]}")
    start, end, label = map(str, found)
    view = next((name for name in names if name.lower() == "view"), None)
    for row in reader:
        if view is None or not str(row[view]).startswith("Waveform"):  # Raven lists a selection once a view
            yield float(row[start]), float(row[end]), unguarded((row[label] or "").strip())


def _read_audacity(text: str) -> Iterator[tuple[float, float, str]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("\\"):  # which begins a label's frequencies
            start, end, label = line.split("\t", 2)
            yield float(start.replace(",", ".")), float(end.replace(",", ".")), label.strip()


def _read_textgrid(text: str) -> Iterator[tuple[float, float, str]]:
    """Both of Praat's text formats: what is no number, text in quotes or flag is decoration."""
    tokens = re.findall(r'"(?:[^"]|"")*"|<\w+>|(?<![\w\[])-?\d+(?:\.\d+)?(?:[eE]-?\d+)?(?![\w\]])', text)
    if len(tokens) < 6 or tokens[1].strip('"') != "TextGrid":
        raise ValueError("no TextGrid")
    take: Callable[[], str] = iter(tokens[5:]).__next__  # after the two of the file, its times and <exists>
    try:
        for _ in range(int(take())):
            kind = take().strip('"')
            _ = take(), take(), take()  # name, first and last second
            for _ in range(int(take())):
                start = float(take())
                end = float(take()) if kind == "IntervalTier" else start
                yield start, end, take()[1:-1].replace('""', '"').strip()
    except StopIteration as error:
        raise ValueError("the TextGrid ends early") from error


def _textgrid(events: Sequence[Event], seconds: float) -> Iterator[str]:
    """A tier for each label, as events of one label never overlap, and gaps between them as empty intervals."""
    labels = sorted({event.label for event in events})
    last = max([1000 * seconds, *(event.end for event in events)])
    yield from ('File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_s(last)}")
    yield from ("tiers? <exists>", f"size = {len(labels)}", "item []:")
    for number, label in enumerate(labels, 1):
        quoted = label.replace('"', '""')
        intervals, time = [], 0.0
        for event in (event for event in events if event.label == label):
            if event.start > time:
                intervals.append((time, event.start, ""))
            intervals.append((event.start, event.end, quoted))
            time = event.end
        if last > time:
            intervals.append((time, last, ""))
        yield from (f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{quoted}"')
        yield from ("        xmin = 0", f"        xmax = {_s(last)}", f"        intervals: size = {len(intervals)}")
        for i, (start, end, content) in enumerate(intervals, 1):
            yield from (f"        intervals [{i}]:", f"            xmin = {_s(start)}", f"            xmax = {_s(end)}")
            yield f'            text = "{content}"'
