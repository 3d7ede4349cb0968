"""Windows on a file's bytes, and what a survey of them says."""

from dataclasses import dataclass
from typing import BinaryIO

from hear_byols.errors import InputError

_WINDOW = 1 << 18


class Content:
    """Bytes of a seekable file at any place, read in windows, so that a file of any size takes little memory."""

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
        while len(window := self.at(place, _WINDOW)) >= len(text):
            if (found := window.find(text)) >= 0:
                return place + found
            place += len(window) - len(text) + 1
        return -1


@dataclass(frozen=True)
class Part:
    """A run of bytes that is a recording of its own for a decoder; a file joined of several has several."""

    start: int  # its first byte
    stop: int  # the byte behind its last
    seconds: float | None = None  # how long it is by its own count; None if that is not known
    slack: float = 0.0  # seconds that may be missing, where a decoder leaves out the padding of an encoder
    header: bytes = b""  # tells a decoder the part's length, which it would else take for less
    body: int = 0  # the byte that follows the header then


@dataclass(frozen=True)
class Survey:
    """What a file holds."""

    parts: tuple[Part, ...]  # what is to be decoded, one after the other
    notes: tuple[str, ...] = ()  # what is worth knowing, but no reason to refuse the file


def whole(content: Content, start: int, seconds: float | None = None) -> Survey:
    """One part to the end of the file, of which a decoder says what is wrong."""
    return Survey((Part(start, content.size, seconds),))


def cut_off(held: float, announced: float, unit: str = "s") -> InputError:
    """The error for a file that holds less than its header announces."""
    of = f"{held:.2f} s of the {announced:.2f} s" if unit == "s" else f"{held:.0f} of the {announced:.0f} {unit}"
    return InputError(f"is cut off: it holds {of} that its header announces")


def within(content: Content, place: int, spare: int = 0) -> int:
    """The place where something ends, if the file reaches so far, or lacks ``spare`` bytes.

    Raises:
        InputError: it is cut off.
    """
    if place > content.size + spare:
        raise cut_off(content.size, place, "bytes")
    return place


def after_tags(content: Content, place: int = 0) -> int:
    """Place behind the ID3v2 tags that stand at ``place``, and their padding."""
    while (head := content.at(place, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + size + (10 if head[5] & 0x10 else 0)
    return place
