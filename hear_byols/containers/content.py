"""Windows on a file's bytes, and what a survey of them says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from hear_byols.errors import InputError

_WINDOW = 1 << 18


class Content:
    """Bytes of a file at any place, read in windows, so that a file of any size takes little memory.

    Args:
        file: opened for reading, seekable.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self._start = 0
        self._window = b""

    def at(self, place: int, n: int) -> bytes:
        """Up to ``n`` bytes from ``place`` on; fewer at the end of the file."""
        first = place - self._start
        if first < 0 or first + n > len(self._window):
            self._file.seek(place)
            self._window = self._file.read(max(n, _WINDOW))
            self._start, first = place, 0
        return self._window[first : first + n]

    def find(self, text: bytes, place: int) -> int:
        """Place of the next ``text`` from ``place`` on, -1 if there is none."""
        while place < self.size:
            window = self.at(place, min(_WINDOW, self.size - place))
            if (found := window.find(text)) >= 0:
                return place + found
            place += max(1, len(window) - len(text) + 1)
            if len(window) < len(text):
                return -1
        return -1


@dataclass(frozen=True)
class Part:
    """A run of bytes that is a recording of its own for a decoder; a file joined of several has several.

    Args:
        start: its first byte.
        stop: the byte behind its last.
        seconds: how long it is by its own count; None if that is not known.
        slack: by how many seconds less may be decoded, where a decoder leaves out the padding of an encoder.
        header: bytes that tell a decoder the part's length, which it would else take for less.
        body: the byte that follows the header then.
    """

    start: int
    stop: int
    seconds: float | None = None
    slack: float = 0.0
    header: bytes = b""
    body: int = 0


@dataclass(frozen=True)
class Survey:
    """What a file holds.

    Args:
        parts: what is to be decoded, one after the other.
        notes: what is worth knowing, but no reason to refuse the file.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


def cut_off(held: float, announced: float, unit: str = "s") -> InputError:
    """The error for a file that holds less than its header announces."""
    if unit == "s":
        return InputError(f"is cut off: it holds {held:.2f} s of the {announced:.2f} s that its header announces")
    return InputError(f"is cut off: it holds {held:.0f} of the {announced:.0f} {unit} that its header announces")


def after_tags(content: Content, place: int = 0) -> int:
    """Place behind the ID3v2 tags that stand at ``place``, and their padding."""
    while (head := content.at(place, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + size + (10 if head[5] & 0x10 else 0)
    return place
