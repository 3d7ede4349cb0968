"""Audio files of Debian packages whose own licence lets anybody use them.

A package's machine-readable copyright file (DEP-5) names a licence for patterns of paths in the *source*; installed
files lie elsewhere, so a pattern is compared with the end of a path. Where that leaves a doubt, the file is left out.
"""

import hashlib
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from .speech import RATE, decode, run

AUDIO = (".wav", ".ogg", ".oga", ".flac", ".mp3", ".opus", ".aif", ".aiff")
FREE = re.compile(
    r"(CC0|CC-?BY)(-?\d(\.\d+)?)?(-(US|unported))?|MIT|Expat|BSD(-?[234]-?clause)?|Apache-?2(\.0)?|PD|public-?domain",
    re.I,
)
NOTHING = re.compile("(?!)")
PIECE_SECONDS, PIECES = 30.0, 6  # of a long file, spread over it
SHORTEST_SECONDS, QUIETEST, CLIPPED = 0.3, 0.003, 0.08  # the last: share of samples at full scale


@dataclass(frozen=True)
class Stanza:
    """``Files:`` of a copyright file."""

    patterns: tuple[str, ...]
    licence: str
    author: str

    @cached_property
    def tails(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What ends of paths it speaks of: any folder and name, and a name alone.

        A free licence needs more: two folders or a path that lacks but its first folder, since ``sounds/*`` of one
        part of a source is not that of another.
        """
        deep, alone = [], []
        for pattern in self.patterns:
            parts = stem(pattern.removeprefix("./")).split("/")
            for start in range(len(parts)):
                tail = parts[start:]
                named = sum(bool(re.search(r"\w", part)) for part in tail)
                exact = "*" not in "".join(tail)
                if (named or start == 0) and (not self.free or exact or named > 1 or start < 2):
                    ending = re.escape("/".join(tail)).replace(r"\*", ".*").replace(r"\?", ".")
                    (alone if exact and len(tail) == 1 else deep).append(ending)
        return tuple(re.compile(f".*/(?:{'|'.join(ends)})") if ends else NOTHING for ends in (deep, alone))

    @cached_property
    def free(self) -> bool:
        """Whether one of the licences to choose from is free in all of its parts."""
        choices = re.split(r"\s*(?:,\s*)?\bor\b\s*|\s*\|\s*", self.licence)
        return any(all(FREE.fullmatch(p) for p in re.split(r"\s*(?:,|\band\b)\s*", c) if p) for c in choices if c)


def parsed(copyright_text: str) -> tuple[list[Stanza], str]:
    """Stanzas and source of a machine-readable copyright file; a text of another form has no stanzas."""
    stanzas, link = [], ""
    for paragraph in re.split(r"\n[ \t]*\n", copyright_text):
        fields = {k.lower(): v.strip() for k, v in re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", paragraph, re.M)}
        licence = fields.get("license", fields.get("licence", "")).partition("\n")[0].strip()
        if "files" not in fields:
            link = link or " ".join(fields.get("source", "").split())
        elif licence:
            # Hydrogen's drum kits are listed as archives and installed as folders; names with spaces are listed as such
            listed = fields["files"].replace(".h2drumkit", "/*")
            patterns = {*listed.split(), *(line.strip() for line in listed.splitlines())} - {"*", ""}
            said = (fields[k] for k in ("copyright", "comment", "source", "origin") if k in fields)
            stanzas.append(Stanza(tuple(sorted(patterns)), licence, " ".join(" ".join(said).split())))
    return stanzas, link


def stem(path: str) -> str:
    base, dot, ending = path.rpartition(".")
    return base if dot and "." + ending.lower() in (*AUDIO, ".*", ".{ogg,wav}") else path


def stanza_of(path: str, stanzas: list[Stanza], names: Counter[str]) -> Stanza | None:
    """The last stanza that names an installed file, else the one of all files if no part of the source is unfree.

    Args:
        path: of the installed file.
        stanzas: of the package.
        names: how many audio files of the package have this name; a name alone decides only where it is one.
    """
    path, found = stem(path), None
    unique = names[path.rpartition("/")[2]] == 1
    for stanza in stanzas:
        deep, alone = stanza.tails
        if deep.fullmatch(path) or (unique and alone.fullmatch(path)):
            found = stanza
    source = [one for one in stanzas if not one.patterns or not all(p.startswith("debian") for p in one.patterns)]
    if found is None and all(stanza.free for stanza in source):
        found = next((stanza for stanza in source if not stanza.patterns), None)
    return found


@dataclass(frozen=True)
class Source:
    """Where a clip comes from."""

    package: str
    version: str
    file: str
    licence: str
    author: str
    link: str


def clips(deb: Path, seen: set[str], only: str = "", without: str = "(?!)") -> Iterator[tuple[np.ndarray, Source]]:
    """Free clips of a package file, long ones as up to six pieces of 30 s, none twice.

    Args:
        deb: the package file.
        seen: digests of the clips so far; grows.
        only: regular expression of the paths to take.
        without: of those to leave out.
    """
    name, version = (run("dpkg-deb", "-f", str(deb), key).strip() for key in ("Package", "Version"))
    with tempfile.TemporaryDirectory() as folder:
        run("dpkg-deb", "-x", str(deb), folder)
        root = Path(folder)
        for archive in [p for p in root.rglob("*") if p.is_file() and zipfile.is_zipfile(p)]:
            zipfile.ZipFile(archive).extractall(f"{archive}.d")
        copyright_file = root / "usr/share/doc" / name / "copyright"
        stanzas, link = parsed(copyright_file.read_text(errors="replace") if copyright_file.is_file() else "")
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO and p.is_file() and not p.is_symlink())
        names = Counter(stem(p.name) for p in files)
        for path in files:
            inside = str(path.relative_to(root))
            stanza = stanza_of("/" + inside.replace(".zip.d/", ".zip/"), stanzas, names)
            if stanza is None or not stanza.free or not re.search(only, inside) or re.search(without, inside):
                continue
            source = Source(name, version, inside, stanza.licence, stanza.author, link)
            for piece in pieces(path):
                digest = hashlib.md5(piece.tobytes()).hexdigest()
                if digest not in seen:
                    seen.add(digest)
                    yield piece, source


def pieces(path: Path) -> Iterator[np.ndarray]:
    """Pieces of a file that are neither too short nor silent nor cut off at full scale."""
    try:
        samples = decode(path)
    except soundfile.LibsndfileError:
        return
    n = int(PIECE_SECONDS * RATE)
    count = min(max(int(np.ceil(len(samples) / n)), 1), PIECES)
    for start in np.linspace(0, max(len(samples) - n, 0), count).astype(int):
        piece = samples[start : start + n]
        level = np.abs(piece)
        if len(piece) >= SHORTEST_SECONDS * RATE and level.max() > QUIETEST and np.mean(level > 0.999) < CLIPPED:
            yield piece.astype(np.float32)
