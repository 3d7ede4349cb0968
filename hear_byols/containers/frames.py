"""Streams of frames, each with its length: AAC (ADTS), AC-3, AMR, Flash video. They are followed to the last byte."""

from collections.abc import Callable

from hear_byols.containers.chunks import is_padding
from hear_byols.containers.content import Content, Survey, whole, within
from hear_byols.errors import InputError

_HEAD = 15  # bytes of a frame that tell its length
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)  # bytes by frame type; 0: there is none
_AMR_WB = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)

Length = Callable[[bytes], int]  # of a frame by its head, 0 if it is none


def survey_aac(content: Content, start: int) -> Survey:
    """Survey AAC in ADTS frames.

    Raises:
        InputError: it is cut off within a frame, or damaged.
    """

    def length(head: bytes) -> int:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if is_adts(head) else 0

    return _follow(content, start, length)


def is_adts(head: bytes) -> bool:
    """Whether a frame of AAC begins so."""
    return len(head) > 6 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def survey_ac3(content: Content, start: int) -> Survey:
    """Survey AC-3 and E-AC-3; as :func:`survey_aac`."""
    return _follow(content, start, _ac3)


def survey_amr(content: Content, start: int) -> Survey:
    """Survey AMR, narrow or wide; as :func:`survey_aac`."""
    wide = content.at(start, 9) == b"#!AMR-WB\n"
    if not wide and content.at(start, 6) != b"#!AMR\n":
        raise InputError("is AMR of several channels; convert it to WAV")
    sizes = _AMR_WB if wide else _AMR
    return _follow(content, start + (9 if wide else 6), lambda head: sizes[head[0] >> 3 & 15] if head[0] else 0)


def survey_flv(content: Content, start: int) -> Survey:
    """Survey Flash video; as :func:`survey_aac`."""
    first = int.from_bytes(content.at(start + 5, 4), "big") + 4
    tags = (8, 9, 18)  # sound, picture, data

    def length(head: bytes) -> int:
        return int.from_bytes(head[1:4], "big") + 15 if head[0] & 31 in tags else 0

    return _follow(content, start + first, length)


def _ac3(head: bytes) -> int:
    if head[:2] != b"\x0b\x77" or len(head) < 6 or head[5] >> 3 > 16:
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, size = head[4] >> 6, head[4] & 63
    if rate == 3 or size // 2 >= len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[size // 2]
    return (kbits * 4, 2 * (kbits * 320 // 147 + size % 2), kbits * 6)[rate]


def _follow(content: Content, place: int, length: Length) -> Survey:
    begin = place
    while place < content.size:
        n_bytes = length(content.at(place, _HEAD))
        if n_bytes == 0:
            if place > begin and (is_padding(content, place) or content.at(place, 3) in (b"TAG", b"ID3", b"APE")):
                break
            raise InputError(f"is damaged: {place} of {content.size} bytes could be followed, then there is no frame")
        place = within(content, place + n_bytes)
    return whole(content, 0)
