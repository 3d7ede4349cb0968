"""FLAC: frames are found by their headers and numbers, so that a stream of unknown length is read to its end.

A frame's number says how many samples are before it; a number that is left out is a frame that was lost.
"""

import re
from collections.abc import Iterator
from functools import reduce

from hear_byols.containers.content import Content, Part, Survey, cut_off, whole
from hear_byols.errors import InputError

_STREAMINFO = 34  # bytes
_STEP = 1 << 18
_HEADER_BYTES = 16  # at most
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
# Of each byte, polynomial x^8 + x^2 + x + 1.
_CRC8 = bytes(reduce(lambda byte, _: (byte << 1 ^ 0x07 * (byte >> 7)) & 0xFF, range(8), first) for first in range(256))


def survey_flac(content: Content, start: int) -> Survey:
    """Follow the frames, and put the true length into the header of a stream that was written to a pipe.

    Raises:
        InputError: frames are missing, or more follow than the header says.
    """
    info = content.at(start + 8, _STREAMINFO)
    if len(info) < _STREAMINFO or content.at(start + 4, 1)[0] & 0x7F != 0:
        return whole(content, start)
    rate, announced = int.from_bytes(info[10:13], "big") >> 4, int.from_bytes(info[13:18], "big") & (1 << 36) - 1
    block = int.from_bytes(info[2:4], "big")  # of every frame but the last, where frames are numbered
    audio = _behind_metadata(content, start + 4)
    if audio is None or rate == 0:
        return whole(content, start)
    end = 0
    for place, first, n_samples in _frames(content, audio, block):
        if first > end:
            raise InputError(
                f"is damaged: {(first - end) / rate:.2f} s are missing before byte {place}, "
                f"{end / rate:.2f} s could be read before them"
            )
        end = first + n_samples
    if end < announced:
        raise cut_off(end / rate, announced / rate)
    is_joined = content.find(b"fLaC\0\0\0\x22", audio) >= 0
    if announced and (end > announced or is_joined):
        raise InputError(f"holds more than the {announced / rate:.2f} s that its header says: were files joined?")
    if announced or not end:
        return whole(content, start, announced / rate if announced else None)
    if is_joined:
        raise InputError("is several FLAC files joined; decode it to one")
    known = info[:13] + bytes([info[13] & 0xF0 | end >> 32]) + (end & 0xFFFFFFFF).to_bytes(4, "big") + info[18:]
    header = content.at(start, 8) + known
    return Survey((Part(start, content.size, end / rate, header=header, body=start + len(header)),))


def _behind_metadata(content: Content, place: int) -> int | None:
    """Place of the first frame; None if the blocks before it do not end in the file."""
    while len(head := content.at(place, 4)) == 4:
        place += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            return place if place <= content.size else None
    return None


def _frames(content: Content, place: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Place, first sample and number of samples of each frame.

    A sync code within a frame is told from a header by its checksum and its number.
    """
    end = 0
    while place < content.size:
        window = content.at(place, min(_STEP + _HEADER_BYTES, content.size - place))
        for match in _SYNC.finditer(window, 0, min(_STEP + 1, len(window))):
            header = _header(window, match.start())
            if header is None:
                continue
            number, n_samples, counts_samples = header
            first = number if counts_samples else number * block
            if first == end or (first > end and _is_followed(content, place + match.start(), header)):
                yield place + match.start(), first, n_samples
                end = first + n_samples
        place += _STEP


def _is_followed(content: Content, place: int, header: tuple[int, int, bool]) -> bool:
    """Whether the next frame follows a frame that does not continue the one before: then frames were lost."""
    number, n_samples, counts_samples = header
    wanted = number + n_samples if counts_samples else number + 1
    window = content.at(place + 1, 1 << 17)
    headers = (_header(window, match.start()) for match in _SYNC.finditer(window))
    return any(found and found[0] == wanted and found[2] == counts_samples for found in headers)


def _header(window: bytes, begin: int) -> tuple[int, int, bool] | None:
    """Number of a frame, its samples, and whether the number counts samples; None if there is no header."""
    data = window[begin : begin + _HEADER_BYTES]
    if len(data) < 6 or data[3] & 1 or data[2] >> 4 == 0 or data[2] & 15 == 15 or data[3] >> 4 > 10:
        return None
    place, number = 5, data[4]
    if number >= 0x80:  # coded as UTF-8 is, in up to 36 bits
        n = next((n for n in range(1, 7) if number >> (6 - n) == (1 << (n + 2)) - 2), 0)
        if n == 0 or len(data) < place + n or any(byte >> 6 != 2 for byte in data[place : place + n]):
            return None
        number &= (1 << (6 - n)) - 1
        for byte in data[place : place + n]:
            number = number << 6 | byte & 0x3F
        place += n
    size, rate = data[2] >> 4, data[2] & 15
    block_bytes, rate_bytes = {6: 1, 7: 2}.get(size, 0), {12: 1, 13: 2, 14: 2}.get(rate, 0)
    n_samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << max(size - 8, 0)
    if block_bytes:
        n_samples = int.from_bytes(data[place : place + block_bytes], "big") + 1
    place += block_bytes + rate_bytes
    if place >= len(data):
        return None
    crc = 0
    for byte in data[:place]:
        crc = _CRC8[crc ^ byte]
    return (number, n_samples, bool(data[1] & 1)) if crc == data[place] else None
