"""What is wrong with a task folder: everything at once, before a run of hours stumbles over it."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from hear_byols._util.files import file_digest
from hear_byols.audio import open_audio
from hear_byols.errors import InputError, TaskError
from hear_byols.evaluation.tasks import Task, TaskClip, audio_rates, read_task

_SLACK_MS = 50.0  # that an event may end after its clip: labels are rounded, lossy formats trim a little


@dataclass(frozen=True)
class Finding:
    """Something wrong."""

    kind: str  # one of a few words, for counting: "missing", "leak", "label" ...
    where: str  # file, split or folder
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


def check_task(folder: str | os.PathLike[str], sample_rate: int | None = None) -> list[Finding]:
    """Check a task's format, labels and audio, of one sample rate or of every rate that the folder has.

    Found are: files and folders that are missing or not in the format; audio that cannot be read, has another rate than
    its folder's name says, several channels or another length than ``sample_duration``; audio that no split lists;
    labels outside the vocabulary; clips of a multiclass task without exactly one label; events outside their clip or
    without duration; empty splits; and clips that occur in two splits, by name or by content.
    """
    folder = Path(folder)
    try:
        task = read_task(folder)
    except TaskError as error:
        return [Finding("format", str(folder), str(error))]
    findings = [*_check_labels(task)]
    rates = [sample_rate] if sample_rate else audio_rates(folder)
    if not rates:
        findings.append(Finding("missing", str(folder), "no folder of audio, such as 16000/"))
    for rate in rates:
        findings += _check_audio(task, rate)
    return findings


def _check_labels(task: Task) -> Iterator[Finding]:
    splits_of = defaultdict(list)
    for split in task.splits:
        if not task.clips[split]:
            yield Finding("empty", f"{split}.json", "lists no clips")
        for clip in task.clips[split]:
            splits_of[clip.name].append(split)
            labels = [*clip.labels, *(event.label for event in clip.events)]
            where = f"{split}.json, {clip.name}"
            unknown = sorted(set(labels) - set(task.vocabulary))
            if unknown:
                yield Finding("label", where, f"{unknown} not in labelvocabulary.csv")
            if not task.is_event and task.prediction_type == "multiclass" and len(labels) != 1:
                yield Finding("label", where, f"one label is needed in a multiclass task, got {labels}")
            for event in clip.events:
                if event.start < 0 or event.end <= event.start:
                    yield Finding("event", where, f"{event.label} from {event.start:g} to {event.end:g} ms")
    for name, splits in splits_of.items():
        if len(splits) > 1:
            yield Finding("leak", name, f"the name is in {' and '.join(splits)}")


def _check_audio(task: Task, rate: int) -> Iterator[Finding]:
    by_content = defaultdict(list)
    for clip in task.all_clips():
        path = task.audio_path(clip, rate)
        where = f"{rate}/{clip}"
        if not path.is_file():
            yield Finding("missing", where, "listed, but there is no such file")
            continue
        for kind, what in _faults(task, clip, path, rate):
            yield Finding(kind, where, what)
        by_content[file_digest(path)].append(clip)
    for clips in by_content.values():
        if len({clip.split for clip in clips}) > 1:
            names = ", ".join(map(str, clips))
            yield Finding("leak", f"{rate}/", f"the same content in different splits: {names}")
    for split in task.splits:
        listed = {clip.name for clip in task.clips[split]}
        present = {path.name for path in (task.folder / str(rate) / split).glob("[!.]*")}
        for name in sorted(present - listed):
            yield Finding("unlisted", f"{rate}/{split}/{name}", f"is not in {split}.json")


def _faults(task: Task, clip: TaskClip, path: Path, rate: int) -> Iterator[tuple[str, str]]:
    try:
        open_audio(path)
        info = soundfile.info(path)
    except (InputError, soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        yield "audio", f"cannot be read ({error})"
        return
    if info.samplerate != rate:
        yield "rate", f"{info.samplerate} Hz in a folder of {rate} Hz"
    if info.channels != 1:
        yield "audio", f"{info.channels} channels; mono is needed"
    if info.frames == 0:
        yield "audio", "holds no samples"
    if task.sample_duration and abs(info.frames - task.sample_duration * info.samplerate) > 1:
        yield "length", f"{info.duration:.4f} s; sample_duration is {task.sample_duration:g} s"
    for event in clip.events:
        if event.end > 1000 * info.duration + _SLACK_MS:
            yield "event", f"{event.label} ends at {event.end:g} ms, after the clip"
