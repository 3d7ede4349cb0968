"""What is wrong with a task folder: everything at once, before a run of hours stumbles over it."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import soundfile

from hear_byols._util.files import file_digest
from hear_byols.audio import open_audio
from hear_byols.errors import InputError, TaskError
from hear_byols.evaluation.tasks import Task, TaskClip, read_task

_SLACK_MS = 50.0  # that an event may end after its clip: labels are rounded, lossy formats trim a little


@dataclass(frozen=True)
class Finding:
    """Something wrong.

    Args:
        kind: one of a few words, for counting: ``"missing"``, ``"leak"``, ``"label"`` ...
        where: file, split or folder.
        what: is wrong.
    """

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


def check_task(folder: str | os.PathLike[str], sample_rate: int | None = None) -> list[Finding]:
    """Check a task's format, labels and audio.

    Found are: files and folders that are missing or not in the format; audio that cannot be read, has another rate than
    its folder's name says, several channels or another length than ``sample_duration``; audio that no split lists;
    labels outside the vocabulary; clips of a multiclass task without exactly one label; events outside their clip or
    without duration; empty splits; and clips that occur in two splits, by name or by content.

    Args:
        folder: the task.
        sample_rate: of the audio to check; by default every rate that the folder has.

    Returns:
        All findings; none if the folder is sound.
    """
    folder = Path(folder)
    try:
        task = read_task(folder)
    except TaskError as error:
        return [Finding("format", str(folder), str(error))]
    rates = [sample_rate] if sample_rate else sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    findings = _check_labels(task) + _check_names(task)
    if not rates:
        findings.append(Finding("missing", str(folder), "no folder of audio, such as 16000/"))
    for rate in rates:
        findings += _check_audio(task, rate)
    return findings


def _check_labels(task: Task) -> list[Finding]:
    findings = []
    for split in task.splits:
        if not task.clips[split]:
            findings.append(Finding("empty", f"{split}.json", "lists no clips"))
        for clip in task.clips[split]:
            labels = [event.label for event in clip.events] if task.is_event else list(clip.labels)
            where = f"{split}.json, {clip.name}"
            unknown = sorted(set(labels) - set(task.vocabulary))
            if unknown:
                findings.append(Finding("label", where, f"{unknown} not in labelvocabulary.csv"))
            if not task.is_event and task.prediction_type == "multiclass" and len(labels) != 1:
                findings.append(Finding("label", where, f"one label is needed in a multiclass task, got {labels}"))
            findings += [
                Finding("event", where, f"{event.label} from {event.start:g} to {event.end:g} ms")
                for event in clip.events
                if event.start < 0 or event.end <= event.start
            ]
    return findings


def _check_names(task: Task) -> list[Finding]:
    splits_of = defaultdict(list)
    for clip in task.all_clips():
        splits_of[clip.name].append(clip.split)
    return [
        Finding("leak", name, f"the name is in {' and '.join(splits)}")
        for name, splits in splits_of.items()
        if len(splits) > 1
    ]


def _check_audio(task: Task, rate: int) -> list[Finding]:
    findings, by_content = [], defaultdict(list)
    for clip in task.all_clips():
        path = task.audio_path(clip, rate)
        where = f"{rate}/{clip.split}/{clip.name}"
        if not path.is_file():
            findings.append(Finding("missing", where, "listed, but there is no such file"))
            continue
        findings += [Finding(kind, where, what) for kind, what in _faults(task, clip, path, rate)]
        by_content[file_digest(path)].append(clip)
    for clips in by_content.values():
        if len({clip.split for clip in clips}) > 1:
            names = ", ".join(f"{clip.split}/{clip.name}" for clip in clips)
            findings.append(Finding("leak", f"{rate}/", f"the same content in different splits: {names}"))
    return findings + _unlisted(task, rate)


def _faults(task: Task, clip: TaskClip, path: Path, rate: int) -> list[tuple[str, str]]:
    try:
        open_audio(path)
        info = soundfile.info(path)
    except (InputError, soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        return [("audio", f"cannot be read ({error})")]
    faults = []
    if info.samplerate != rate:
        faults.append(("rate", f"{info.samplerate} Hz in a folder of {rate} Hz"))
    if info.channels != 1:
        faults.append(("audio", f"{info.channels} channels; mono is needed"))
    if info.frames == 0:
        faults.append(("audio", "holds no samples"))
    if task.sample_duration and abs(info.frames - task.sample_duration * info.samplerate) > 1:
        faults.append(("length", f"{info.duration:.4f} s; sample_duration is {task.sample_duration:g} s"))
    late = [event for event in clip.events if event.end > 1000 * info.duration + _SLACK_MS]
    faults += [("event", f"{event.label} ends at {event.end:g} ms, after the clip") for event in late]
    return faults


def _unlisted(task: Task, rate: int) -> list[Finding]:
    findings = []
    for split in task.splits:
        listed = {clip.name for clip in task.clips[split]}
        folder = task.folder / str(rate) / split
        present = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else ()
        findings += [
            Finding("unlisted", f"{rate}/{split}/{name}", f"is not in {split}.json")
            for name in sorted(set(present) - listed)
        ]
    return findings
