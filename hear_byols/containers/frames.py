"""Streams of frames, each with its length: AAC (ADTS), AC-3, AMR, Flash video. They are followed to the last byte."""

from collections.abc import Callable

from hear_byols.containers.chunks import is_padding
from hear_byols.containers.content import Content, Survey, whole, within
from hear_byols.errors import InputError

_HEAD = 15  # bytes of a frame that tell its length
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)  # bytes by frame type; 0: there is none
_AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)


def follow(content: Content, place: int, length: Callable[[bytes], int]) -> Survey:
    """Survey frames from ``place`` on, of which ``length`` tells the bytes by their heads, 0 where there is none.

    Raises:
        InputError: the file is cut off within a frame, or damaged.
    """
    begin = place
    while place < content.size:
        n_bytes = length(content.at(place, _HEAD))
        if n_bytes == 0:
            if place > begin and (is_padding(content, place) or content.at(place, 3) in (b"TAG", b"ID3", b"APE")):
                break
            raise InputError(f"is damaged: {place} of {content.size} bytes could be followed, then there is no frame")
        place = within(content, place + n_bytes)
    return whole(content, 0)


def is_adts(head: bytes) -> bool:
    """Whether a frame of AAC begins so."""
    return len(head) > 6 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def adts_bytes(head: bytes) -> int:
    """Length of a frame of AAC."""
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if is_adts(head) else 0


def ac3_bytes(head: bytes) -> int:
    """Length of a frame of AC-3 or E-AC-3."""
    if head[:2] != b"\x0b\x77" or len(head) < 6 or head[5] >> 3 > 16:
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, size = head[4] >> 6, head[4] & 63
    if rate == 3 or size // 2 >= len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[size // 2]
    return (kbits * 4, 2 * (kbits * 320 // 147 + size % 2), kbits * 6)[rate]


def survey_amr(content: Content, start: int) -> Survey:
    """Survey AMR, narrow or wide; as :func:`follow`."""
    wide = content.at(start, 9) == b"#!AMR-WB\n"
    if not wide and content.at(start, 6) != b"#!AMR\n":
        raise InputError("is AMR of several channels; convert it to WAV")
    sizes = _AMR_WB if wide else _AMR
    return follow(content, start + (9 if wide else 6), lambda head: sizes[head[0] >> 3 & 15] if head[0] else 0)


def survey_flv(content: Content, start: int) -> Survey:
    """Survey Flash video, of tags with sound, pictures and data; as :func:`follow`."""
    first = int.from_bytes(content.at(start + 5, 4), "big") + 4
    return follow(
        content,
        start + first,
        lambda head: int.from_bytes(head[1:4], "big") + 15 if head[0] & 31 in (8, 9, 18) else 0,
    )
