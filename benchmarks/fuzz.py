"""Bounded attacks on what comes from elsewhere: damaged files must end whole, refused, or in one clear error.

    python benchmarks/fuzz.py --csv benchmarks/results/fuzz.csv

Each kind makes valid material of its own, mutates it and hands it to the package. Outcomes are counted: "fine",
"refused" (an error of the package), and what must not be: "wrong" (read without a word, though something is missing),
"foreign" (any other exception) and "hang". The exit status is 1 if there was any of these. A seed repeats a run.
"""

import argparse
import csv
import faulthandler
import io
import json
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from fuzz_models import KINDS as MODEL_KINDS

from hear_byols.containers import ffmpeg
from hear_byols.errors import HearByolsError

HANG_S = 60  # longest that a mutation may take
RATE = 16000
BAD = ("wrong", "foreign", "hang")

# A kind makes, in a folder, an endless sequence of attacks; an attack says how it ended or raises.
Attack = Callable[[], str]
Kind = Callable[[Path, random.Random], Iterator[Attack]]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One of the things that happen to files: bits, bytes, runs, lengths, ends, joints."""
    content = bytearray(data)
    place = chance.randrange(len(content))
    head = min(len(content), 200)  # where headers are
    what = chance.randrange(9)
    if what == 0:
        content[place] ^= 1 << chance.randrange(8)
    elif what == 1:
        content[chance.randrange(head)] = chance.randrange(256)
    elif what == 2:
        start = chance.randrange(head)
        content[start : start + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
    elif what == 3:
        del content[place:]
    elif what == 4:
        del content[place : place + chance.randrange(1, 2000)]
    elif what == 5:
        content[place : place + chance.randrange(1, 5000)] = bytes(chance.randrange(1, 5000))
    elif what == 6:
        content[place:place] = chance.randbytes(chance.randrange(1, 500))
    elif what == 7:
        content += content[: chance.randrange(1, len(content))]
    else:
        for _ in range(chance.randrange(1, 50)):
            content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


_FORMS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("RF64", "PCM_16"), ("W64", "PCM_16")]
_FORMS += [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16")]
_FORMS += [("SVX", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
_FFMPEG_FORMS = [("adts", "aac"), ("ac3", "ac3", 32000), ("mp4", "aac"), ("webm", "libopus"), ("matroska", "aac")]
_FFMPEG_FORMS += [("asf", "wmav2"), ("flv", "aac", 44100), ("tta", "tta"), ("wv", "wavpack")]


def _by_ffmpeg(samples: np.ndarray, form: str, codec: str, rate: int = RATE) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 32000
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or None)
        for block in resampler.resample(frame) + resampler.resample(None):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def audio(folder: Path, chance: random.Random) -> Iterator[Attack]:
    """Audio files of every format; a cut-off one must not be read without a word."""
    from hear_byols.audio import load_audio

    samples = 0.2 * np.random.default_rng(0).standard_normal(2 * RATE)
    whole = []
    for form, subtype in _FORMS:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, RATE, format=form, subtype=subtype)
        whole.append(buffer.getvalue())
    if ffmpeg.is_available():
        whole += [_by_ffmpeg(samples, *form) for form in _FFMPEG_FORMS]
    path = folder / "x.bin"
    while True:
        original = chance.choice(whole)
        mutated = mutate(original, chance)
        # What a format without checksums cannot show is no fault; that half of a file is missing, all of them show but
        # streams of frames without a header, where one ends.
        is_cut = len(mutated) < 0.9 * len(original) and original.startswith(mutated) and original[:1] not in b"\xff\x0b"

        def attack(mutated: bytes = mutated, is_cut: bool = is_cut) -> str:
            path.write_bytes(mutated)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                read = load_audio(path)
            if not np.isfinite(read).all() or (is_cut and len(read) < 1.9 * RATE and not caught):
                return "wrong"
            return "fine"

        yield attack


def index(folder: Path, chance: random.Random) -> Iterator[Attack]:
    """The index and the manifest of an output folder, bit by bit and key by key."""
    from hear_byols.extraction.extract import embed_to_folder
    from hear_byols.extraction.files import collect
    from hear_byols.extraction.formats import find_format
    from hear_byols.extraction.output import open_output

    for i in range(3):
        soundfile.write(folder / f"{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(4000), RATE)
    embed_to_folder([folder], folder / "csv", model="random_cnn", format="csv")
    embed_to_folder([folder], folder / "npz", model="random_cnn", format="npz")
    files = collect([folder])
    originals = {path: path.read_bytes() for path in folder.glob("*/*") if path.is_file()}
    originals |= {path: path.read_bytes() for path in folder.glob("*/embeddings/*")}
    while True:
        form = chance.choice(["csv", "npz"])
        victim = folder / form / chance.choice(["index.jsonl", "manifest.json"])
        text = originals[victim]
        mutated = mutate(text, chance) if chance.random() < 0.5 else _mutate_json(text, chance)

        def attack(form: str = form, victim: Path = victim, mutated: bytes = mutated) -> str:
            for path, content in originals.items():
                if path.parent.name == "embeddings" or not path.exists() or path.read_bytes() != content:
                    path.write_bytes(content)
            victim.write_bytes(mutated)
            settings = json.loads(originals[folder / form / "manifest.json"])
            about = ("n_recorded", "complete", "n_failed", "failed", "failed_by_extension", "warnings", "schema")
            settings = {key: value for key, value in settings.items() if key not in about}
            with open_output(folder / form, find_format(form), settings, overwrite=False) as output:
                pending = output.pending(files)
                recorded = {source["name"] for source in output.index.sources()}
                outputs = [folder / form / name for entry in output.index.entries for name in entry["outputs"]]
            if {file.name for file in files} - {file.name for file in pending} - recorded:
                return "wrong"  # counted as done without a record
            return "fine" if all(path in originals or path.name.startswith("part-") for path in outputs) else "wrong"

        yield attack


def _mutate_json(text: bytes, chance: random.Random) -> bytes:
    """Change, remove or replace a value somewhere in the JSON of the first line, or of the whole."""
    first, _, rest = text.partition(b"\n") if text.startswith(b"[") else (text, b"", b"")
    content = json.loads(first)
    places: list[tuple[list | dict, object]] = []
    stack = [content]
    while stack:
        node = stack.pop()
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                stack.append(node[key])
    node, key = chance.choice(places)
    if chance.random() < 0.3:
        del node[key]
    elif isinstance(node, dict) and chance.random() < 0.3:
        node[chance.choice(["", "\0", "..", "\ud800", "embeddings/../x", "/etc/x", "x" * 5000])] = node.pop(key)
    else:
        node[key] = chance.choice([None, True, -1, 1e308, 10**30, "", "\0", "\udcff", [], {}, [[]], {"": 0}, "../x"])
    return json.dumps(content).encode() + (b"\n" + rest if text.startswith(b"[") else b"\n")


KINDS: dict[str, Kind] = {"audio": audio, "index": index, **MODEL_KINDS}


def run(kind: Kind, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Make so many attacks; how they ended, and the first of those that must not be."""
    outcomes: Counter[str] = Counter()
    told = []
    attacks = kind(folder, random.Random(seed))
    for number in range(count):
        attack = next(attacks)
        started = time.monotonic()
        faulthandler.dump_traceback_later(HANG_S, exit=True, file=sys.__stderr__)
        try:
            outcome = attack()
        except HearByolsError:
            outcome = "refused"
        except Exception as error:
            outcome = "foreign"
            told.append(f"attack {number}: {type(error).__name__}: {error}"[:300])
        else:
            if outcome in BAD:
                told.append(f"attack {number}: {outcome}")
        finally:
            faulthandler.cancel_dump_traceback_later()
        outcomes["hang" if time.monotonic() - started > HANG_S / 2 else outcome] += 1
    return outcomes, told[:20]


def main(argv: list[str] | None = None) -> int:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", metavar="FILE", help="also write the counts there")
    args = parser.parse_args(argv)
    unknown = set(args.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    rows = []
    for name in args.kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes, told = run(KINDS[name], args.count, args.seed, Path(folder))
        counts = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("fine", "refused", *BAD))
        print(f"{name}: {args.count} attacks: {counts}", *told, sep="\n  ", flush=True)
        rows.append({"what": name, "attacks": args.count} | {o: outcomes[o] for o in ("fine", "refused", *BAD)})
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return int(any(row[outcome] for row in rows for outcome in BAD))


if __name__ == "__main__":
    sys.exit(main())
