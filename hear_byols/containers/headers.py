"""Older formats whose header says how much follows: NIST SPHERE, Creative Voice, the Amiga's SVX, and AVI."""

from __future__ import annotations

import struct

from hear_byols.containers.chunks import FORM, compare_samples
from hear_byols.containers.content import Content, Survey, whole, within
from hear_byols.errors import InputError

_VOC_SOUND, _VOC_SILENT = (1, 9), (4, 5, 8)


def survey_nist(content: Content, start: int) -> Survey:
    """Survey NIST SPHERE.

    Raises:
        InputError: it is cut off, or holds more than its header says.
    """
    lines = content.at(start, 4096).split(b"end_head")[0].split(b"\n")
    fields = {words[0]: words[2] for line in lines if len(words := line.split()) == 3}
    try:
        place = start + int(lines[1])
        n_samples, rate = int(fields[b"sample_count"]), int(fields[b"sample_rate"])
        block = int(fields[b"channel_count"]) * int(fields[b"sample_n_bytes"])
    except (IndexError, KeyError, ValueError) as error:
        raise InputError("its NIST header does not say how many samples follow") from error
    return compare_samples(content, start, place, n_samples * block, block, rate, None)


def survey_voc(content: Content, start: int) -> Survey:
    """Survey Creative Voice; as :func:`survey_nist`. A decoder reads one block of sound, so several are refused."""
    place = start + int.from_bytes(content.at(start + 20, 2), "little")
    n_sounds = 0
    while (kind := content.at(place, 1)) not in (b"", b"\0"):
        place = within(content, place + 4 + int.from_bytes(content.at(place + 1, 3), "little"))
        n_sounds += kind[0] in _VOC_SOUND
        if n_sounds > 1 or kind[0] not in _VOC_SOUND + _VOC_SILENT:
            raise InputError("is a VOC file of several blocks of sound; convert it to WAV")
    return compare_samples(content, start, start, place + len(kind) - start, 0, 0, None)


def survey_avi(content: Content, start: int) -> Survey:
    """Survey AVI, of one form or several that continue it; as :func:`survey_nist`."""
    place = start
    while content.at(place, 4) == b"RIFF":
        if place > start and content.at(place + 8, 4) != b"AVIX":
            raise InputError(f"is several AVI files joined; a second begins at byte {place}")
        (length,) = struct.unpack("<I", content.at(place + 4, 4).ljust(4, b"\0"))
        place = within(content, place + 8 + length + length % 2, spare=1)
    return whole(content, start)


def survey_svx(content: Content, start: int) -> Survey:
    """Survey 8SVX and 16SV; as :func:`survey_nist`."""
    block, rate = 2 if content.at(start + 8, 4) == b"16SV" else 1, 0
    for name, place, length in FORM.chunks(content, start + 12, start):
        if name == b"VHDR" and length >= 14:
            (rate,) = struct.unpack(">H", content.at(place + 12, 2))
        elif name == b"BODY":
            return compare_samples(content, start, place, length, block, rate, FORM)
    return whole(content, start)
