"""Formats whose parts say how long they are: NIST SPHERE, Creative Voice, SVX, AVI, MPEG-4 and QuickTime, Matroska."""

import struct

from hear_byols.containers.chunks import FORM, compare_samples, is_padding
from hear_byols.containers.content import Content, Survey, whole, within
from hear_byols.errors import InputError

_VOC_SOUND, _VOC_SILENT = (1, 9), (4, 5, 8)
_EBML, _SEGMENT, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"  # of Matroska


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


def survey_mp4(content: Content, start: int) -> Survey:
    """Follow the boxes of MPEG-4 and QuickTime to the last; as :func:`survey_nist`."""
    place = start
    while len(head := content.at(place, 16)) >= 8:
        (length,) = struct.unpack(">I", head[:4])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: to the end
            break
        if head[4:8] == b"ftyp" and place > start:
            raise InputError(f"is several MPEG-4 files joined; a second begins at byte {place}")
        place = within(content, place + length)
    return whole(content, start)


def survey_matroska(content: Content, start: int) -> Survey:
    """Follow the elements of Matroska and WebM to the last byte, down to the blocks of sound; as :func:`survey_nist`.

    Recorders that cannot know a length leave those of the segment and the clusters open.
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
