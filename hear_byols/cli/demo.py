"""``hear-byols demo``: makes its own example audio, embeds it and shows which sounds are neighbours."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hear_byols._util.files import atomic_path
from hear_byols.cli.options import MODEL_HELP, add_command, add_device, print_failures

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
_SCALE_HZ = (262, 294, 330, 392, 440, 392, 330, 294)
# First three formants in Hz of the vowels in "father", "see", "boot", "bed", "law" (Peterson & Barney 1952, men).
_VOWELS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
_FORMANT_WIDTH_HZ = 90


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "demo", "embed example audio", run, _DESCRIPTION)
    parser.add_argument("--output", "-o", default="hear-byols-demo", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--model", "-m", default="", help=MODEL_HELP)
    add_device(parser, quiet="no progress bar")


def run(args: argparse.Namespace) -> int:
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


def write_examples(folder: Path) -> list[Path]:
    """Write two melodies, voices, series of bursts of noise and chirps, the same at every call; their paths."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for name, (rate, make) in _EXAMPLES.items():
        soundfile.write(folder / name, 0.5 * make(rate), rate)
    return [folder / name for name in _EXAMPLES]


def melody(rate: int, transpose: float = 1.0, note_s: float = 0.3) -> np.ndarray:
    """Decaying notes with overtones, in stereo, all pitches times ``transpose``: [shape=(n_samples, 2)] in [-1, 1]."""
    time = np.arange(round(note_s * rate)) / rate
    notes = []
    for pitch in _SCALE_HZ:
        tones = (np.sin(2 * np.pi * pitch * transpose * k * time) / k**2 for k in range(1, 6))
        notes.append(sum(tones) * np.exp(-5 * time) * np.minimum(1, time / 0.005) / 1.5)
    left = np.concatenate(notes)
    return np.stack([left, 0.6 * left], axis=1)


def voice(rate: int, pitch_hz: float, syllable_s: float = 0.25) -> np.ndarray:
    """Vowels on a wavering pitch, harmonics weighted by the vowels' formants: [shape=(n_samples,)] in [-1, 1]."""
    n = round(syllable_s * rate)
    time = np.arange(8 * n) / rate
    phase = np.cumsum(pitch_hz * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * time))) / rate
    fade = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 0.5
    syllables = []
    for i in range(8):
        formants = np.array(_VOWELS_HZ[i % len(_VOWELS_HZ)])
        harmonics = np.arange(1, int(min(4000, 0.45 * rate) / pitch_hz))
        distance = (harmonics[:, None] * pitch_hz - formants) / _FORMANT_WIDTH_HZ
        weights = (1 / (1 + distance**2) / (1, 2, 4)).sum(1) + 0.01
        waves = np.sin(2 * np.pi * harmonics[:, None] * phase[i * n : (i + 1) * n])
        syllable = weights @ waves
        syllables.append(syllable / np.abs(syllable).max() * fade)
    return np.concatenate(syllables)


def noise_bursts(rate: int, n_bursts: int = 6, burst_s: float = 0.35, seed: int = 0) -> np.ndarray:
    """White noise that starts suddenly and dies away, every ``burst_s``: [shape=(n_samples,)] in [-1, 1]."""
    n = round(burst_s * rate)
    noise = np.random.default_rng(seed).uniform(-1, 1, (n_bursts, n))
    return (noise * np.exp(-20 * np.arange(n) / rate)).reshape(-1)


def chirp(rate: int, from_hz: float = 100, to_hz: float = 3500, length_s: float = 2.0) -> np.ndarray:
    """A sine whose pitch changes exponentially: [shape=(n_samples,)] in [-1, 1]."""
    time = np.arange(round(length_s * rate)) / rate
    growth = np.log(to_hz / from_hz) / length_s
    return np.sin(2 * np.pi * from_hz * (np.exp(growth * time) - 1) / growth)


_EXAMPLES: dict[str, tuple[int, Callable[[int], np.ndarray]]] = {
    "melody.wav": (44100, melody),
    "melody_higher.flac": (22050, lambda rate: melody(rate, transpose=1.5)),
    "voice_low.wav": (16000, lambda rate: voice(rate, 110)),
    "voice_high.flac": (48000, lambda rate: voice(rate, 210)),
    "noise_bursts.flac": (32000, noise_bursts),
    "noise_bursts_faster.wav": (22050, lambda rate: noise_bursts(rate, n_bursts=9, burst_s=0.22, seed=1)),
    "chirp.wav": (8000, chirp),
    "chirp_falling.flac": (16000, lambda rate: chirp(rate, from_hz=3000, to_hz=150)),
}
