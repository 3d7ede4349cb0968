"""Matroska and WebM: their elements are followed to the last byte, down to the blocks of sound."""

from __future__ import annotations

from hear_byols.containers.chunks import is_padding
from hear_byols.containers.content import Content, Survey, whole, within
from hear_byols.errors import InputError

_EBML, _SEGMENT, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"


def survey_matroska(content: Content, start: int) -> Survey:
    """Follow the elements; recorders that cannot know a length leave those of the segment and the clusters open.

    Raises:
        InputError: it is cut off or damaged, or a second file follows.
    """
    place = start
    while place < content.size and not (place > start and is_padding(content, place)):
        name = _number(content, place, 4)
        length = _number(content, place + len(name), 8)
        if not name or not length:
            raise InputError(f"is damaged: {place} of {content.size} bytes could be followed, then there is no element")
        if name == _EBML and place > start:
            raise InputError(f"is several Matroska files joined; a second begins at byte {place}")
        bits = 7 * len(length)
        n_bytes = int.from_bytes(length, "big") & (1 << bits) - 1
        is_open = n_bytes == (1 << bits) - 1
        place += len(name) + len(length)
        end = content.size if is_open else within(content, place + n_bytes)
        place = place if name in (_SEGMENT, _CLUSTER) else end
    return whole(content, start)


def _number(content: Content, place: int, most: int) -> bytes:
    """The bytes of a number that tells its own length by its leading zeros; none if there is no such number."""
    head = content.at(place, most)
    n_bytes = 9 - head[0].bit_length() if head else 9
    return head[:n_bytes] if n_bytes <= len(head) else b""
