"""MPEG audio (MP3 and layers I and II): frames are counted, since a decoder stops at what it took for the length.

A file may be several streams joined end to end; each begins with its tags or its own header frame (Xing, Info, VBRI).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hear_byols.containers.content import Content, Part, Survey, after_tags, cut_off, whole
from hear_byols.errors import InputError

_KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
_LONGEST = 2881  # bytes of a frame, at most
_PADDING = 4096  # bytes behind the last frame that may be anything
_EDGE = 1 << 16  # bytes without frames that may stand before the first and behind the last
_TOLERATED = 0.01  # share of bytes between frames that belong to none; each run shorter than a frame


@dataclass(frozen=True)
class MpegFrame:
    """The header of a frame."""

    version: int  # 1, or 2 for the low rates of MPEG 2 and 2.5
    layer: int  # 1, 2 or 3
    rate: int  # in Hz
    channels: int  # 1 or 2
    n_bytes: int  # of the frame with its header; 0 if it has "free format" and does not say
    n_samples: int  # that it decodes to, of each channel
    head: bytes  # its first four bytes

    @property
    def kind(self) -> tuple[int, int, int]:
        """What all frames of a stream share."""
        return self.version, self.layer, self.rate

    @property
    def seconds(self) -> float:
        return self.n_samples / self.rate


def parse_frame(head: bytes) -> MpegFrame | None:
    """Read a frame's header, None if the bytes are none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_bits, bitrate_bits, padding = head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if version_bits == 1 or layer == 4 or rate_bits == 3 or bitrate_bits == 15 or head[3] & 3 == 2:
        return None
    version = 1 if version_bits == 3 else 2
    rate = _RATES[rate_bits] >> {3: 0, 2: 1, 0: 2}[version_bits]
    bits = _KBITS[version, layer][bitrate_bits] * 1000
    n_samples = 384 if layer == 1 else 576 if layer == 3 and version == 2 else 1152
    n_bytes = (12 * bits // rate + padding) * 4 if layer == 1 else n_samples // 8 * bits // rate + padding
    channels = 1 if head[3] >> 6 == 3 else 2
    return MpegFrame(version, layer, rate, channels, n_bytes if bits else 0, n_samples, head[:4])


@dataclass
class _Stream:
    """Frames that follow each other, as one encoder wrote them."""

    start: int
    frame: MpegFrame
    promised: int = 0  # frames, by the header frame
    trimmed: int = 0  # samples that a decoder leaves out at both ends, by the header frame
    has_header: bool = False
    stop: int = 0
    n_frames: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)  # bytes between frames that belong to none
    missing: int = 0  # bytes of the last frame


def find_frame(content: Content, place: int, stop: int) -> int:
    """Place of the first frame from ``place`` on that another of its kind follows, ``stop`` if there is none."""
    while place < stop:
        place = content.find(b"\xff", place)
        if place < 0:
            return stop
        frame = parse_frame(content.at(place, 4))
        if frame is not None and frame.n_bytes:
            second = parse_frame(content.at(place + frame.n_bytes, 4))
            if second is not None and second.kind == frame.kind:
                return place
        place += 1
    return stop


def survey_mpeg(content: Content, start: int) -> Survey:
    """Count the frames.

    Raises:
        InputError: frames are missing: cut off, zeroed, or fewer than a header frame promises.
    """
    first = find_frame(content, start, min(content.size, start + 16 * _EDGE))
    if first - start > _EDGE:
        raise InputError(f"is damaged: {first - start} bytes before its first frame hold no audio")
    streams = list(_streams(content, first))
    if not streams:  # free format, a single frame, or no MPEG audio
        return whole(content, start)
    if _leads_to(content, first, streams[0].frame):
        raise InputError(f"is damaged: a tag before byte {first} says that it is longer than it is, and hides audio")
    notes = []
    if first > start:
        notes.append(f"begins with {first - start} bytes that hold no audio: something may be missing there")
    for stream in streams:
        _check(stream)
        if stream.missing and not stream.promised:
            notes.append("ends within a frame: it may have been cut off, and no header says how long it was")
    place = streams[-1].stop
    while (behind := _behind_tag(content, place)) > place:
        place = behind
    left = content.size - place
    if left > _EDGE or (left > _PADDING and not content.at(place, left).strip(b"\0")):
        seconds = sum(stream.n_frames * stream.frame.seconds for stream in streams)
        raise InputError(f"is damaged: the last {left} bytes hold no audio; {seconds:.2f} s were read before them")
    if left > _PADDING:
        notes.append(f"ends in {left} bytes that hold no audio: something may be missing there")
    parts = [_part(stream) for stream in streams]
    parts[-1] = replace(parts[-1], stop=content.size)
    parts[0] = replace(parts[0], start=start)
    return Survey(tuple(parts), tuple(notes))


def _leads_to(content: Content, first: int, like: MpegFrame) -> bool:
    """Whether a frame before ``first``, which should be the first one, ends just there."""
    begin = max(0, first - _LONGEST)
    before = content.at(begin, first - begin)
    frames = ((place, parse_frame(before[place : place + 4])) for place in range(len(before) - 4))
    return any(frame and frame.kind == like.kind and begin + place + frame.n_bytes == first for place, frame in frames)


def _check(stream: _Stream) -> None:
    seconds = stream.n_frames * stream.frame.seconds
    short = stream.promised - stream.n_frames
    if short > 1 or (short == 1 and stream.missing):  # some encoders count their header frame too
        raise cut_off(seconds, stream.promised * stream.frame.seconds)
    lost = [stop - start for start, stop in stream.gaps]
    if lost and (max(lost) > 1.5 * stream.frame.n_bytes or sum(lost) > _TOLERATED * (stream.stop - stream.start)):
        raise InputError(
            f"is damaged: {sum(lost)} bytes among its frames, from byte {stream.gaps[0][0]} on, hold no audio; "
            f"{seconds:.2f} s could be read around them"
        )


def _part(stream: _Stream) -> Part:
    """A stream, with a header frame of ours in case its own does not tell its length."""
    frame = stream.frame
    seconds = (stream.n_frames * frame.n_samples - stream.trimmed) / frame.rate
    slack = (frame.n_samples + 529) / frame.rate  # the delay of a decoder
    if stream.has_header and stream.n_frames <= stream.promised:
        return Part(stream.start, stream.stop, seconds, slack)
    body = stream.start + (frame.n_bytes if stream.has_header else 0)
    return Part(stream.start, stream.stop, seconds, slack + stream.trimmed / frame.rate, _header_frame(stream), body)


def _header_frame(stream: _Stream) -> bytes:
    """A Xing header frame that says how many frames follow, for a decoder that goes by it."""
    if stream.frame.layer != 3:
        return b""
    head = bytearray(stream.frame.head)
    head[1] |= 1  # no CRC
    for bits in range(14, 0, -1):  # any bitrate at which the header has room
        head[2] = bits << 4 | head[2] & 0x0C
        frame = parse_frame(bytes(head))
        if frame is not None and frame.n_bytes >= 200:
            before = bytes(head).ljust(4 + _side_bytes(frame), b"\0")
            return (before + b"Xing" + struct.pack(">II", 1, stream.n_frames)).ljust(frame.n_bytes, b"\0")
    return b""


def _streams(content: Content, place: int) -> Iterator[_Stream]:
    """Follow frames from header to header through the file, and begin a stream at each tag or header frame."""
    stream: _Stream | None = None
    while place < content.size:
        frame = parse_frame(content.at(place, 4))
        if frame is None or not frame.n_bytes or (stream and frame.kind != stream.frame.kind):
            behind = _behind_tag(content, place)
            found = find_frame(content, behind, content.size)
            if found == content.size:
                break
            frame = parse_frame(content.at(found, 4))
            assert frame is not None
            if stream and (behind > place or frame.kind != stream.frame.kind):
                yield stream
                stream = None
            elif stream:
                stream.gaps.append((place, found))
            place = found
        if header := _read_header(content, place, frame):
            if stream:
                yield stream
            stream = _Stream(place, frame, *header, has_header=True)
        else:
            stream = stream or _Stream(place, frame)
            stream.n_frames += 1
        place += frame.n_bytes
        stream.stop = min(place, content.size)
        if place > content.size:
            stream.missing = place - content.size
            stream.n_frames -= 1
    if stream:
        yield stream


def _behind_tag(content: Content, place: int) -> int:
    """Place behind a tag that begins at ``place``, or ``place``."""
    head = content.at(place, 32)
    if head[:3] == b"ID3":
        return after_tags(content, place)
    if head[:3] == b"TAG":
        return place + 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack("<III", head[12:24])
        return place + size + (32 if flags & 1 << 29 else 0)
    if head[:11] == b"LYRICSBEGIN":
        end = content.find(b"LYRICS200", place)
        return end + 9 if end >= 0 else place
    return place


def _side_bytes(frame: MpegFrame) -> int:
    return {(1, 2): 32, (1, 1): 17, (2, 2): 17, (2, 1): 9}[frame.version, frame.channels]


def _read_header(content: Content, place: int, frame: MpegFrame) -> tuple[int, int] | None:
    """The frames that a header frame promises and the samples it trims; None if it is a frame of audio."""
    if frame.layer != 3:
        return None
    side = 4 + _side_bytes(frame)
    text = content.at(place + side, 160)
    if text[:4] in (b"Xing", b"Info") and len(text) >= 12:
        flags, promised = struct.unpack(">II", text[4:12])
        lame = 8 + sum(n_bytes for bit, n_bytes in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
        delays = text[lame + 21 : lame + 24]
        has_lame = len(delays) == 3 and text[lame : lame + 4] in (b"LAME", b"Lavf", b"Lavc", b"GOGO", b"L3.9")
        trimmed = (delays[0] << 4 | delays[1] >> 4) + ((delays[1] & 15) << 8 | delays[2]) if has_lame else 0
        return (promised if flags & 1 else 0), trimmed
    text = content.at(place + 36, 18)
    if text[:4] == b"VBRI" and len(text) == 18:
        return struct.unpack(">I", text[14:18])[0], 0
    return None
