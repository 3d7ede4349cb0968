"""Audio for pre-training that anybody may use: speech, notes, music and sounds made here, and free files of Debian.

    python -m benchmarks.pretraining_audio speech --hours 1.5 --output made/
    python -m benchmarks.pretraining_audio notes --hours 0.7 --output made/ --soundfont FluidR3_GM.sf2
    python -m benchmarks.pretraining_audio debian --output made/ --kind music --only /music/ naev-data_0.8.2-1_all.deb

Each run writes a tar of mono 16 kHz Ogg/Opus clips of at most 30 s for ``hear-byols pretrain --data``, and its line of
``manifest.csv``; ``debian`` besides a table with file, package, version, licence, author and link of each clip. The
same seed makes the same audio with the same programs. ``speech`` needs espeak-ng, ``flite`` flite, both ``pip install
babel``; ``notes`` and ``music`` FluidSynth, a General MIDI sound font and ``pip install mido``; ``debian`` dpkg.
"""

import argparse
import csv
import io
import random
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from . import debian, music, sounds, speech
from .speech import RATE, ProgramError

OPUS_LEVEL = 0.93  # of libsndfile: about 24 kbit/s
LOUDEST = 0.9  # peak of a clip, since Opus overshoots
COLUMNS = ["shard", "clips", "hours", "bytes", "kind", "clean", "licence", "content", "author", "link", "version"]

Row = dict[str, object]
Clips = Iterator[np.ndarray]


def made_sounds(dice: random.Random) -> Clips:
    """One clip of :mod:`sounds`, any kind."""
    kind = dice.choice(list(sounds.KINDS))
    yield sounds.sound(np.random.default_rng(dice.getrandbits(63)), kind, dice.uniform(1.0, 6.0))


MADE: dict[
    str, tuple[Callable[..., Clips], Sequence[str], Row]
] = {  # how, the program's version, what the manifest says
    "speech": (
        speech.speech,
        "espeak-ng",
        {
            "kind": "speech",
            "content": f"names, numbers, dates and measures in {len(speech.VOICES)} languages and dialects",
            "licence": "made here",
            "author": "made with espeak-ng (a GPL program); words of Unicode CLDR (Unicode licence)",
            "link": "https://github.com/espeak-ng/espeak-ng",
        },
    ),
    "flite": (
        speech.flite,
        "flite",
        {
            "kind": "speech",
            "content": f"English names, numbers, dates and measures by the voices {', '.join(speech.FLITE_VOICES)}",
            "licence": "BSD (voices)",
            "author": "made with flite, Carnegie Mellon University; words of Unicode CLDR (Unicode licence)",
            "link": "http://cmuflite.org",
        },
    ),
    "notes": (
        music.notes,
        "fluidsynth",
        {
            "kind": "notes",
            "content": "single notes of the 128 General MIDI instruments, and drums",
            "licence": "MIT (sound font)",
            "author": "made with FluidSynth",
            "link": "https://packages.debian.org/fluid-soundfont-gm",
        },
    ),
    "music": (
        music.music,
        "fluidsynth",
        {
            "kind": "music",
            "content": "random melodies, chords, bass and drums of random instruments",
            "licence": "MIT (sound font)",
            "author": "made with FluidSynth",
            "link": "https://packages.debian.org/fluid-soundfont-gm",
        },
    ),
    "sounds": (
        made_sounds,
        None,
        {
            "kind": "environment",
            "content": ", ".join(sounds.KINDS),
            "licence": "made here",
            "author": "made with benchmarks/pretraining_audio/sounds.py",
        },
    ),
}


def make(write: Callable[[random.Random], Clips], hours: float, seed: int) -> Clips:
    """Clips, of random peak and without silence at their ends, until they are long enough."""
    seconds, i = 0.0, 0
    with tqdm(total=round(3600 * hours), unit="s") as bar:
        while seconds < 3600 * hours:
            dice = random.Random(f"{seed} {i}")
            for samples in write(dice):
                clip = trimmed(samples)
                if len(clip) >= 0.1 * RATE and np.abs(clip).max() > 1e-3:  # not an instrument's silent key
                    yield dice.uniform(0.2, 0.9) / np.abs(clip).max() * clip
                    bar.update(min(len(clip) / RATE, bar.total - bar.n))
                    seconds += len(clip) / RATE
            i += 1


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Without what is 60 dB under the peak at both ends, save 50 ms of it."""
    loud = np.flatnonzero(np.abs(samples) > 1e-3 * np.abs(samples).max(initial=0.0))
    return samples[max(loud[0] - RATE // 20, 0) : loud[-1] + RATE // 20] if len(loud) else samples[:0]


def store(output: Path, name: str, clips: Clips) -> Row:
    """Write a shard, whole or not at all; returns what the manifest says of its size."""
    part, count, seconds = output / f"{name}.tar.part", 0, 0.0
    with tarfile.open(part, "w") as tar:
        for clip in clips:
            data = io.BytesIO()
            clip = clip / max(np.abs(clip).max() / LOUDEST, 1)
            soundfile.write(data, clip, RATE, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL)
            member = tarfile.TarInfo(clip_name(name, count))
            member.size = data.tell()
            data.seek(0)
            tar.addfile(member, data)
            count, seconds = count + 1, seconds + len(clip) / RATE
    path = part.replace(output / f"{name}.tar")
    return {"shard": path.name, "clips": count, "hours": round(seconds / 3600, 3), "bytes": path.stat().st_size}


def clip_name(shard: str, number: int) -> str:
    return f"{shard}_{number:06d}.opus"


def register(output: Path, row: Row) -> None:
    """Write a shard's line of the manifest, in place of an older one."""
    manifest = output / "manifest.csv"
    old = list(csv.DictReader(manifest.open(newline=""))) if manifest.exists() else []
    rows = [other for other in old if other["shard"] != row["shard"]] + [{"clean": "yes"} | row]
    table(manifest, COLUMNS, sorted(rows, key=lambda one: str(one["shard"])))


def table(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def make_shard(args: argparse.Namespace) -> None:
    """Make what is asked for."""
    write, program, row = MADE[args.what]
    if args.what in ("notes", "music"):
        write = partial(write, soundfont=args.soundfont)
        row = row | {"author": f"{row['author']} and {Path(args.soundfont).name}"}
    size = store(args.output, args.name, make(write, args.hours, args.seed))
    if program:  # its status says nothing: flite's is 1
        said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        number = re.search(r"\d+\.\d+[\w.+-]*", said)
        row = row | {"version": f"{program} {number[0] if number else 'of unknown version'}"}
    register(args.output, row | size)


def take_shard(args: argparse.Namespace) -> None:
    """Take the free files of packages, and tell of each where it comes from."""
    sources: list[debian.Source] = []
    seen: set[str] = set()

    def clips() -> Clips:
        for deb in tqdm(args.packages):
            for clip, source in debian.clips(deb, seen, args.only, args.without):
                sources.append(source)
                yield clip

    size = store(args.output, args.name, clips())
    files = [{"clip": clip_name(args.name, i)} | asdict(source) for i, source in enumerate(sources)]
    told = args.output / f"{args.name}.csv"
    table(told, ["clip", "package", "version", "file", "licence", "author", "link"], files)
    packages = sorted({f"{source.package} {source.version}" for source in sources})
    row = {
        "kind": args.kind,
        "licence": " / ".join(sorted({source.licence for source in sources})),
        "content": args.content,
        "author": f"per file, {told.name}",
        "link": " ".join(sorted({f"https://packages.debian.org/{source.package}" for source in sources})),
        "version": "; ".join(packages),
    }
    register(args.output, row | size)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whats = parser.add_subparsers(dest="what", required=True)
    for what in (*MADE, "debian"):
        sub = whats.add_parser(what)
        sub.add_argument("--output", type=Path, required=True, help="folder")
        sub.add_argument("--name", default=what if what == "debian" else f"made_{what}", help="of the shard")
        if what == "debian":
            sub.add_argument("packages", type=Path, nargs="+", metavar="DEB")
            sub.add_argument("--kind", default="environment", help="for the manifest")
            sub.add_argument("--content", default="", help="for the manifest")
            sub.add_argument("--only", default="", help="regular expression of paths to take")
            sub.add_argument("--without", default="(?!)", help="regular expression of paths to leave out")
        else:
            sub.add_argument("--hours", type=float, required=True)
            sub.add_argument("--seed", type=int, default=0)
        if what in ("notes", "music"):
            sub.add_argument("--soundfont", required=True, help="General MIDI sound font, .sf2 or .sf3")
    args = parser.parse_args(argv)
    files = [Path(args.soundfont)] if args.what in ("notes", "music") else getattr(args, "packages", [])
    if missing := [str(file) for file in files if not file.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        (take_shard if args.what == "debian" else make_shard)(args)
    except ProgramError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
