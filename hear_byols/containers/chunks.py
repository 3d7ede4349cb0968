"""Formats of chunks, each with a name and a length: WAV, RF64, Wave64, AIFF, CAF; and AU, a header before samples."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hear_byols.containers.content import Content, Survey, cut_off, whole
from hear_byols.errors import InputError

_W64 = {name: name + b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a" for name in (b"wave", b"fmt ", b"data")}
RIFF64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_PADDING = 4096  # zeros behind the samples that are taken for padding
_PLAIN = {1: "PCM", 3: "float", 6: "A-law", 7: "mu-law"}  # WAV formats in which every frame has the same bytes
_AIFF_PCM = (b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"42ni", b"23ni", b"fl32", b"FL32", b"fl64", b"FL64")
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_TRAILERS = (b"LIST", b"INFO", b"id3 ", b"ID3 ", b"bext", b"iXML", b"_PMX", b"JUNK", b"FLLR", b"PAD ", b"afsp", b"AFAn")
_TRAILING = 1 << 20  # bytes at the end of a file in which chunks are looked for, where no length tells their place
_MPEG, _MPEG_SLACK = 0x55, 0.1  # MP3 in a WAV; seconds that a decoder may leave out


@dataclass(frozen=True)
class Layout:
    """How a format writes its chunks: name, length, content."""

    name_bytes: int
    length: str  # of struct
    counts_head: bool = False  # whether the length counts the head of the chunk too
    align: int = 1

    def chunks(self, content: Content, place: int, start: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield name, first byte and length of chunk after chunk from ``place`` on, the last whether or not it fits.

        Chunks are aligned to ``start``, where their form begins, which tags may have moved.
        """
        head_bytes = self.name_bytes + struct.calcsize(self.length)
        while len(head := content.at(place, head_bytes)) == head_bytes:
            name = head[: self.name_bytes]
            (length,) = struct.unpack(self.length, head[self.name_bytes :])
            length -= head_bytes if self.counts_head else 0
            yield name, place + head_bytes, length
            if length < 0:
                return
            place = self.aligned(place + head_bytes + length, start)

    def aligned(self, place: int, start: int) -> int:
        """The next place on or behind ``place`` at which a chunk can begin."""
        return place + -(place - start) % self.align


_RIFF = Layout(4, "<I", align=2)
_RIFX = Layout(4, ">I", align=2)
FORM = Layout(4, ">I", align=2)
_CAF = Layout(4, ">q")
_WAVE64 = Layout(16, "<q", counts_head=True, align=8)


def survey_wav(content: Content, start: int) -> Survey:
    """Survey RIFF WAVE, RIFX, RF64 and BW64; ``start`` is where the form begins.

    Raises:
        InputError: it is cut off, or holds more than its length says.
    """
    order, layout = (">", _RIFX) if content.at(start, 4) == b"RIFX" else ("<", _RIFF)
    block = rate = long_length = kind = 0
    for name, place, length in layout.chunks(content, start + 12, start):
        body = content.at(place, min(length, 40))
        if name == b"ds64" and len(body) >= 16:
            (long_length,) = struct.unpack("<Q", body[8:16])
        elif name == b"fmt " and len(body) >= 16:
            kind, rate, block = _wave_format(body, order)
        elif name == b"data":
            is_long = length == 0xFFFFFFFF and 0 < long_length < 1 << 63
            length = long_length if is_long else length
            counts_header = length + start in (content.size, content.size - 8)
            is_known = is_long or not (counts_header or _goes_on(content, place, length, start, layout))
            length = length if is_known else _before_chunks(content, place, layout, start) - place
            (part,) = compare_samples(content, start, place, length, block, rate, layout).parts
            if is_known:
                return Survey((replace(part, slack=_MPEG_SLACK if kind == _MPEG else 0.0),))
            header = content.at(start, place - 4 - start) + struct.pack(order + "I", min(length, 0xFFFFFFFF))
            return Survey((replace(part, stop=place + length, header=header, body=place),))
    return whole(content, start)


def _wave_format(body: bytes, order: str) -> tuple[int, int, int]:
    """Kind of samples, rate, and bytes of a frame, 0 where frames differ."""
    kind, _, rate, _, block = struct.unpack(order + "HHIIH", body[:14])
    if kind == 0xFFFE and len(body) >= 26:  # extensible: the kind stands behind
        (kind,) = struct.unpack(order + "H", body[24:26])
    return kind, rate, block if kind in _PLAIN else 0


def _before_chunks(content: Content, place: int, layout: Layout, start: int) -> int:
    """Where samples of unknown length end: before chunks that reach just to the end of the file, if there are any."""
    first = max(place, content.size - _TRAILING)
    for match in re.finditer(b"|".join(_TRAILERS), content.at(first, content.size - first)):
        at = end = first + match.start()
        for name, body, length in layout.chunks(content, at, start):
            end = body + length
            if not _is_name(name):
                break
        else:
            if end == content.size or (at < end < content.size and is_padding(content, end)):
                return at
    return content.size


def survey_w64(content: Content, start: int) -> Survey:
    """Survey Wave64; as :func:`survey_wav`."""
    block = rate = 0
    for name, place, length in _WAVE64.chunks(content, start + 40, start):
        if name == _W64[b"fmt "] and content.size - place >= 16 <= length:
            _, rate, block = _wave_format(content.at(place, min(length, 40)), "<")
        elif name == _W64[b"data"]:
            length = content.size - place if length <= 0 or length >= (1 << 62) else length
            return compare_samples(content, start, place, length, block, rate, _WAVE64)
    return whole(content, start)


def survey_aiff(content: Content, start: int) -> Survey:
    """Survey AIFF and AIFF-C; as :func:`survey_wav`."""
    block = rate = n_frames = 0
    samples = None
    for name, place, length in FORM.chunks(content, start + 12, start):
        body = content.at(place, min(length, 22))
        if name == b"COMM" and len(body) >= 18:
            channels, n_frames, bits = struct.unpack(">hIh", body[:8])
            rate = _extended(body[8:18])
            plain = content.at(start + 8, 4) == b"AIFF" or body[18:22] in _AIFF_PCM
            block = channels * -(-bits // 8) if plain else 0
        elif name == b"SSND":
            unknown = _goes_on(content, place + 8, max(length - 8, 0), start, FORM)
            samples = place + 8, content.size - place - 8 if unknown else length - 8
            if block:
                break
    if samples is None:
        return whole(content, start)
    place, length = samples
    if block > 0 and rate > 0 and n_frames * block > content.size - place:
        raise cut_off((content.size - place) / block / rate, n_frames / rate)
    return compare_samples(content, start, place, length, block, rate, FORM)


def survey_caf(content: Content, start: int) -> Survey:
    """Survey Core Audio; as :func:`survey_wav`."""
    block = rate = 0
    for name, place, length in _CAF.chunks(content, start + 8, start):
        if name == b"desc" and length >= 32:
            hertz, kind, _, block, per_packet = struct.unpack(">d4sIII", content.at(place, 24))
            rate = hertz if hertz > 0 else 0
            block = block if kind == b"lpcm" and per_packet == 1 else 0
        elif name == b"data":
            length = content.size - place if length == -1 else length
            return compare_samples(content, start, place + 4, length - 4, block, rate, _CAF)
    return whole(content, start)


def survey_au(content: Content, start: int) -> Survey:
    """Survey AU, of either byte order; as :func:`survey_wav`."""
    head = content.at(start, 24)
    if len(head) < 24:
        return whole(content, start)
    first, length, kind, rate, channels = struct.unpack(">5I" if head[:4] == b".snd" else "<5I", head[4:])
    place = start + first
    length = content.size - place if _goes_on(content, place, length, start, None) else length
    return compare_samples(content, start, place, length, _AU_BYTES.get(kind, 0) * channels, rate, None)


def compare_samples(
    content: Content, start: int, place: int, length: int, block: int, rate: float, layout: Layout | None
) -> Survey:
    """Compare the length of the samples with what is there, and what stands behind them with chunks."""
    held = content.size - place
    in_seconds = 1 / (block * rate) if block > 0 and rate > 0 else 0
    if length > held:
        scale, unit = (in_seconds, "s") if in_seconds else (1, "bytes")
        raise cut_off(max(held, 0) * scale, length * scale, unit)
    behind = _unclaimed(content, place + length, layout, start)
    if behind > block:
        told = f"{length} bytes, and {behind} more follow"
        if in_seconds:
            told = f"{length * in_seconds:.2f} s, and {behind * in_seconds:.2f} s more follow"
        raise InputError(
            f"holds more than its header says: the header says {told}. The recorder was cut off, the length passed "
            "4 GB, or files were joined; write it anew with its right length"
        )
    return whole(content, start, length // block / rate if in_seconds else None)


def _unclaimed(content: Content, place: int, layout: Layout | None, start: int) -> int:
    """How many bytes from ``place`` on are neither chunks nor tags nor padding."""
    is_tag = content.size - place in (128, 129) and b"TAG" in content.at(place, 4)
    if is_tag or content.at(place, 3) == b"ID3" or content.at(place, 8) == b"APETAGEX" or is_padding(content, place):
        return 0
    if layout is None:
        return content.size - place
    return min(_behind_chunks(content, at, layout, start) for at in {place, layout.aligned(place, start)})


def _behind_chunks(content: Content, place: int, layout: Layout, start: int) -> int:
    """How many bytes follow the chunks that follow from ``place`` on."""
    for name, body, length in layout.chunks(content, place, start):
        if name[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"data", b"SSND") or not _is_name(name[:4]):
            break
        if length < 0 or body + length > content.size:
            return 0 if name[:4] in _TRAILERS else content.size - place
        place = layout.aligned(body + length, start)
    return 0 if is_padding(content, place) else content.size - place


def is_padding(content: Content, place: int) -> bool:
    """Whether a few zeros, or nothing, are all that follows."""
    return content.size - place <= _PADDING and not content.at(place, _PADDING).strip(b"\0")


def _goes_on(content: Content, place: int, length: int, start: int, layout: Layout | None) -> bool:
    """Whether a 32-bit length is what a program writes that cannot know it: 0, nearly 2 GB, nearly 4 GB."""
    if length == 0:
        return _unclaimed(content, place, layout, start) > 0
    return 0x7FFFEF00 <= length <= 0x80000024 or length >= 0xFFFFFF00


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _extended(number: bytes) -> float:
    """An 80-bit float of AIFF."""
    exponent, mantissa = struct.unpack(">HQ", number)
    power = (exponent & 0x7FFF) - 16383 - 63
    return mantissa * 2.0**power if -1000 < power < 900 else 0.0
