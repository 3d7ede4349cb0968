"""Ogg: pages are followed by their numbers and checksums, since a decoder leaves out what is damaged and says nothing.

A file may be several recordings joined end to end ("chained"); a decoder may read the first of them only.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hear_byols.containers.chunks import is_padding
from hear_byols.containers.content import Content, Part, Survey, whole
from hear_byols.errors import InputError

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FIRST, _LAST = 2, 4  # flags of a page


class _Page(NamedTuple):
    place: int  # its first byte
    flags: int  # whether it is the first or last of its stream
    granule: int  # samples of the stream up to its end; -1 if no packet ends in it
    serial: int  # number of its stream
    number: int  # of the page in its stream
    body: bytes


@dataclass
class _Link:
    """A recording of the chain."""

    start: int
    numbers: dict[int, int] = field(default_factory=dict)  # of the last page of each stream
    serial: int | None = None  # of the audio, as what follows
    rate: int = 0
    skipped: int = 0
    granule: int = 0
    has_end: bool = False
    has_body: bool = False

    @property
    def seconds(self) -> float | None:
        """How long it is, where its codec is known."""
        return max(0, self.granule - self.skipped) / self.rate if self.rate else None


class _DamageError(Exception):
    """Where the pages break off, and how."""


def survey_ogg(content: Content, start: int) -> Survey:
    """Follow the pages.

    Raises:
        InputError: pages are damaged or missing.
    """
    links: list[_Link] = []
    try:
        for page in _pages(content, start):
            if page.flags & _FIRST and (not links or links[-1].has_body):
                links.append(_Link(page.place))
            if not links:
                raise _DamageError(page.place, "its first page is missing")
            _follow(links[-1], page)
    except _DamageError as error:
        place, what = error.args
        seconds = sum(link.seconds or 0 for link in links)
        raise InputError(
            f"is damaged at byte {place} of {content.size}: {what}; {seconds:.2f} s could be read before it"
        ) from error
    if not links:
        return whole(content, start)
    stops = [link.start for link in links[1:]] + [content.size]
    parts = tuple(Part(link.start, stop, link.seconds, slack=0.05) for link, stop in zip(links, stops, strict=True))
    notes = ("has no end mark: its last part may be missing",) if not links[-1].has_end else ()
    return Survey(parts, notes)


def _follow(link: _Link, page: _Page) -> None:
    if page.flags & _FIRST:
        _begin(link, page)
    else:
        link.has_body = True
        last = link.numbers.get(page.serial)
        if last is None:
            raise _DamageError(page.place, f"page {page.number} belongs to no stream")
        if page.number != last + 1:
            raise _DamageError(page.place, f"page {page.number} follows page {last}")
    link.numbers[page.serial] = page.number
    if page.serial == link.serial:
        link.granule = page.granule if page.granule >= 0 else link.granule
        link.has_end = bool(page.flags & _LAST)


def _begin(link: _Link, page: _Page) -> None:
    rate = skipped = 0
    if page.body[:7] == b"\x01vorbis" and len(page.body) >= 16:
        (rate,) = struct.unpack("<I", page.body[12:16])
    elif page.body[:8] == b"OpusHead" and len(page.body) >= 12:
        rate = 48000
        (skipped,) = struct.unpack("<H", page.body[10:12])
    elif page.body[:5] == b"\x7fFLAC" and len(page.body) >= 31:
        rate = int.from_bytes(page.body[27:30], "big") >> 4
    elif page.body[:8] == b"Speex   " and len(page.body) >= 40:
        (rate,) = struct.unpack("<I", page.body[36:40])
    if rate and link.serial is None:
        link.serial, link.skipped, link.rate = page.serial, skipped, rate


def _pages(content: Content, place: int) -> Iterator[_Page]:
    """Yield pages; what is not a page, or only part of one, is an error."""
    while place < content.size:
        head, what = content.at(place, 27), "there is no page"
        if len(head) == 27 and head[:5] == b"OggS\0":
            flags, granule, serial, number, wanted, n_segments = struct.unpack("<BqIIIB", head[5:])
            first = 27 + n_segments
            n_bytes = first + sum(content.at(place + 27, n_segments))
            page, what = content.at(place, n_bytes), "a page is cut off or its checksum is wrong"
            if len(page) == n_bytes and _checksum(page[:22] + bytes(4) + page[26:]) == wanted:
                yield _Page(place, flags, granule, serial, number, page[first:])
                place += n_bytes
                continue
        if (place and is_padding(content, place)) or content.at(place, 3) in (b"TAG", b"ID3"):
            return
        raise _DamageError(place, what)


def _checksum(page: bytes) -> int:
    """Of a page whose own checksum is 0 (RFC 3533): as zlib's, with the bits of each byte reversed."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
