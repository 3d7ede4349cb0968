"""A file is read whole or refused: joined, cut off, damaged, of unknown length, and in formats of another library."""

import io
import os
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hear_byols import load_audio
from hear_byols._util import memory
from hear_byols.audio import audio_seconds, decode_bytes, open_audio
from hear_byols.containers import ffmpeg
from hear_byols.errors import AudioWarning, InputError, OptionError

RATE = 16000
SECONDS = 4.0
FORMS = {
    kind.lower(): (kind, "PCM_16") for kind in ("WAV", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "VOC", "SVX", "FLAC")
}
FORMS |= {"float wav": ("WAV", "FLOAT"), "adpcm wav": ("WAV", "IMA_ADPCM"), "aifc": ("AIFF", "FLOAT")}
FORMS |= {"mp3": ("MP3", "MPEG_LAYER_III"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
JOINED = ("mp3", "vorbis", "opus")  # formats whose joined files are read whole; others are refused
TELLS_SECONDS = ("wav", "rf64", "w64", "aiff", "au", "mp3", "nist", "svx")
HAS_STRUCTURE = ("flac", "mp3", "vorbis", "opus")  # that shows where something is missing in the middle


def noise(channels: int = 1) -> np.ndarray:
    audio = 0.1 * np.random.default_rng(0).standard_normal((round(SECONDS * RATE), channels))
    return audio.astype(np.float32)


def written(audio: np.ndarray, rate: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, **options)
    return buffer.getvalue()


def encoded(form: str, channels: int = 1) -> bytes:
    kind, subtype = FORMS[form]
    return written(noise(channels), RATE, format=kind, subtype=subtype)


def without_middle(content: bytes, n_zeros: int) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(n_zeros) + content[middle + n_zeros :]


def seconds_of(content: bytes, folder: Path, name: str = "x.bin") -> float:
    (folder / name).write_bytes(content)
    return len(load_audio(folder / name)) / RATE


def assert_read(content: bytes, folder: Path, seconds: float) -> None:
    """Whole, and counted, from a file and from memory."""
    assert seconds_of(content, folder) == pytest.approx(seconds, abs=0.1)
    assert audio_seconds(folder / "x.bin") == pytest.approx(seconds, abs=0.2)
    assert len(decode_bytes(content, "x")) / RATE == pytest.approx(seconds, abs=0.1)


def assert_refused(content: bytes, folder: Path, message: str, name: str = "x.bin") -> None:
    with pytest.raises(InputError, match=message):
        seconds_of(content, folder, name)


@pytest.mark.parametrize("form", FORMS)
def test_files_are_read_whole_or_refused(tmp_path, form):
    """Whole, with padding behind, cut off, joined, and zeroed in the middle."""
    content = encoded(form)
    for variant in (content, content + bytes(64)):
        assert_read(variant, tmp_path, SECONDS)
    told = r"it holds [1-4]\.\d+ s of the 4\.\d+ s that its header announces" if form in TELLS_SECONDS else ""
    for share in (0.3, 0.6, 0.97):
        cut = rf"x\.bin: (is cut off|is damaged|cannot be read).*{told}"
        assert_refused(content[: int(len(content) * share)], tmp_path, cut)
    if form in HAS_STRUCTURE:
        assert_refused(without_middle(content, 5000), tmp_path, r"is damaged|is cut off")
    if form not in JOINED:
        assert_refused(content + content, tmp_path, "holds more than")
        return
    assert_read(content * 2, tmp_path, 2 * SECONDS)
    assert_read(content * 2 + encoded(form, channels=2), tmp_path, 3 * SECONDS)


def test_a_lost_page_of_ogg_is_found(tmp_path):
    content = encoded("opus")
    places = [match.start() for match in re.finditer(b"OggS", content)]
    message = r"page 4 follows page 2; \d\.\d\d s could be read before it"
    assert_refused(content[: places[3]] + content[places[4] :], tmp_path, message)


# Lengths of WAV and its like


def with_length(content: bytes, length: int) -> bytes:
    place = content.index(b"data") + 4
    return content[:place] + struct.pack("<I", length) + content[place + 4 :]


def test_wave64_of_the_extensible_format_tells_its_seconds(tmp_path):
    plain = encoded("w64")
    place = plain.index(b"fmt \xf3\xac") + 16
    pcm = bytes.fromhex("0100000000001000800000aa00389b71")
    form = struct.pack("<qH", 64, 0xFFFE) + plain[place + 10 : place + 24] + struct.pack("<HHI", 22, 16, 4) + pcm
    size = struct.pack("<q", len(plain) + 24)
    content = plain[:16] + size + plain[24:place] + form + plain[place + 24 :]
    assert seconds_of(content, tmp_path) == SECONDS
    assert_refused(content[: len(content) // 2], tmp_path, r"it holds 2\.00 s of the 4\.00 s")


def test_the_lengths_that_pipes_write_are_read_to_the_end_and_what_follows_the_samples_is_none(tmp_path):
    content = encoded("wav")
    whole, chunks = decode_bytes(content, "file"), (b"", b"LIST\4\0\0\0INFO", b"LIST\5\0\0\0INFOx\0id3 \3\0\0\0abc")
    for behind in (*chunks, b"id3 \1\0\0\0x\0", b"LIST\xff\xff\0\0cut off", b"TAG" + bytes(125)):
        np.testing.assert_array_equal(decode_bytes(content + behind, "file"), whole)
    for length in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0):
        for behind in chunks:
            np.testing.assert_array_equal(decode_bytes(with_length(content, length) + behind, "pipe"), whole)
    au = encoded("au")
    assert seconds_of(au[:8] + b"\xff\xff\xff\xff" + au[12:], tmp_path) == SECONDS


def test_a_length_that_is_too_small_is_refused(tmp_path):
    for form, n_bytes in (("wav", 2), ("float wav", 4)):
        content = with_length(encoded(form), RATE * n_bytes)
        assert_refused(content, tmp_path, r"the header says 1\.00 s, and 3\.00 s more follow")
    content, n_bytes = written(np.zeros((0, 1)), RATE, format="WAV"), (1 << 32) + 64_000  # passed 4 GB
    (tmp_path / "big.wav").write_bytes(with_length(content, n_bytes % (1 << 32)))
    os.truncate(tmp_path / "big.wav", len(content) + n_bytes)  # sparse
    with pytest.raises(InputError, match=r"the header says 2\.00 s, and 134217\.73 s more follow"):
        load_audio(tmp_path / "big.wav")


def test_absurd_rates_are_refused(tmp_path):
    content = encoded("wav")
    for rate in (4_000_000, 768_001, 999, 1):
        message = f"has a rate of {rate} Hz; rates from 1000 to 768000 Hz are read"
        assert_refused(content[:24] + struct.pack("<I", rate) + content[28:], tmp_path, message)
    for rate in (0, -1, 1.5, True, "16000", 768_001):
        with pytest.raises(OptionError, match="sample_rate must be an integer from 1 to 768000 Hz"):
            decode_bytes(content, "x", rate)
    assert len(decode_bytes(content, "x", np.int64(8000))) == SECONDS * 8000


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "x.wav"
    for length, message in ((60_000, "1.87 s could be read, and it holds 4.00 s"), (200_000, "was written to while")):
        path.write_bytes(encoded("wav"))
        recording = open_audio(path)
        os.truncate(path, length)
        with pytest.raises(InputError, match=message):
            recording.read(RATE)


# FLAC and MP3 without a length


def test_flac_from_a_pipe_is_read_whole_in_any_place(tmp_path):
    whole = encoded("flac")
    content = whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4) + whole[26:]  # the number of samples, of 36 bits
    assert seconds_of(content, tmp_path, "pipe.flac") == SECONDS
    np.testing.assert_array_equal(load_audio(tmp_path / "pipe.flac"), decode_bytes(whole, "whole"))
    assert_refused(content[:-3000], tmp_path, "is damaged")


@pytest.fixture(scope="module")
def variable_mp3() -> tuple[bytes, bytes]:
    """An MP3 of variable bit rate and 10 s, dense in its first; and without the frame that says how long it is."""
    audio = 0.2 * np.sin(np.arange(441_000) / 16)
    audio[:44100] = 0.3 * np.random.default_rng(0).standard_normal(44100)
    content = written(audio, 44100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    first = content.index(b"\xff\xfb", 4)
    assert b"Xing" in content[:first]
    return content, content[first:]


def test_mp3_of_variable_rate_without_a_length_is_read_whole_or_refused(tmp_path, variable_mp3):
    content, stream = variable_mp3
    for variant, seconds in ((content, 10), (stream, 10), (stream * 2, 20)):
        assert_read(variant, tmp_path, seconds)
    assert_refused(without_middle(stream, 5000), tmp_path, "among its frames")
    assert_refused(b"ID3\x04\0\0\0\0\x60\0" + content, tmp_path, "hides audio")
    message = r"the last \d+ bytes hold no audio; \d\.\d\d s were read before them"
    assert_refused(stream[:-20_000] + bytes(20_000), tmp_path, message)


def test_mp3_whose_ends_are_in_doubt_is_read_with_a_warning(tmp_path, variable_mp3):
    content, stream = variable_mp3
    for variant, message in (
        (stream[:-50], r"x\.bin: ends within a frame"),
        (stream[50:], r"begins with \d+ bytes that hold no audio"),
        (stream + b"<html>" * 1000, r"ends in \d+ bytes that hold no audio"),
    ):
        with pytest.warns(AudioWarning, match=message):
            seconds_of(variant, tmp_path)
    ends = [b"APETAGEX" + struct.pack("<IIII", 2000, 200_032, 1, flags << 29) + bytes(8) for flags in (5, 4)]
    with warnings.catch_warnings():  # tags behind it may be large
        warnings.simplefilter("error")
        assert seconds_of(content + ends[0] + bytes(200_000) + ends[1], tmp_path) == pytest.approx(10, abs=0.1)


# Channels, sources, memory


def test_channels_that_cancel_each_other_give_a_warning(tmp_path):
    apart = np.random.default_rng(1).normal(0, 0.1, (RATE, 16))
    for audio, is_warned in (
        (noise() * [1, -1], True),
        (noise() * [1, -0.9], True),
        (noise() * [1, 1], False),
        (noise() * [1, 0], False),
        (apart, False),
    ):
        soundfile.write(tmp_path / "x.wav", audio, RATE, subtype="FLOAT")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_audio(tmp_path / "x.wav")
        assert [w.category for w in caught] == [AudioWarning] * is_warned


def test_paths_of_any_kind_and_open_files_are_read_and_what_is_no_file_is_refused(tmp_path):
    content = encoded("wav")
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with open(path, "rb") as file:
        for source in (path, str(path), bytes(path), file, io.BytesIO(content)):
            assert len(load_audio(source)) == SECONDS * RATE
    closed = io.BytesIO()
    closed.close()
    os.mkfifo(tmp_path / "pipe.wav")
    for source, message in (
        ("", "the path is empty"),
        (None, "got NoneType"),
        (3, "got int"),
        (content, "a path holds no NUL, .*BytesIO"),
        (io.StringIO("text"), "open for reading bytes"),
        (closed, "cannot be read .*closed"),
        (io.BytesIO(), "it is empty"),
        (tmp_path / "pipe.wav", "is not a file"),  # and not waited for
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_audio(source)
        assert len(str(caught.value)) < 300
    with open(path, "wb") as file, pytest.raises(InputError, match=r"x\.wav: cannot be read"):
        load_audio(file)


@pytest.mark.parametrize("form", ["wav", "opus"])
def test_what_would_not_fit_into_memory_is_refused_before_it_is_taken(tmp_path, monkeypatch, form):
    n_bytes = 8 * round(SECONDS * RATE)
    monkeypatch.setattr(memory, "available_memory", lambda: n_bytes - 8)
    assert_refused(encoded(form), tmp_path, "not enough memory to decode it")
    monkeypatch.setattr(memory, "available_memory", lambda: n_bytes + 800)
    assert seconds_of(encoded(form), tmp_path) == SECONDS
    monkeypatch.undo()
    assert memory.available_memory() > 1 << 20


def test_numpys_error_state_of_the_host_does_not_matter(tmp_path):
    soundfile.write(tmp_path / "faint.wav", np.full((RATE, 2), 1e-30, np.float32), RATE, subtype="FLOAT")
    with np.errstate(all="raise"):
        assert len(load_audio(tmp_path / "faint.wav")) == RATE


def test_companions_of_a_mac_do_not_hide_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg, "is_available", lambda: False)
    soundfile.write(tmp_path / "other.sd2", noise(), RATE, format="SD2", subtype="PCM_16")  # and its ._other.sd2
    for name, companion in (("a.mp3", b""), ("b.mp3", (tmp_path / "._other.sd2").read_bytes())):
        (tmp_path / f"._{name}").write_bytes(companion)
        assert seconds_of(encoded("mp3"), tmp_path, name) == SECONDS


# Formats of FFmpeg


def by_ffmpeg(
    path: Path, codec: str, rate: int = 44100, form: str | None = None, streams: int = 1, **options: str
) -> bytes:
    av = pytest.importorskip("av", reason='needs pip install "hear_byols[formats]"')
    time = np.arange(round(SECONDS * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * time).astype(np.float32) + np.resize(noise()[:, 0] / 10, len(time))
    with av.open(str(path), "w", format=form, options=options) as container:
        for stream in [container.add_stream(codec, rate=rate, layout="mono") for _ in range(streams)]:
            stream.bit_rate = 12200 if "amr" in codec else 64000
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            context = stream.codec_context
            if not context.is_open:  # the first packet opens all
                context.open()
            resampler = av.AudioResampler(context.format, "mono", rate, frame_size=context.frame_size or None)
            for block in resampler.resample(frame) + resampler.resample(None):
                container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    return path.read_bytes()


FFMPEG_FORMS = [(name, "aac", {}) for name in ("x.mp4", "x.aac", "x.mkv", "x.flv")]
FFMPEG_FORMS += [(f"x.{codec}", codec, {}) for codec in ("ac3", "eac3", "tta")]
FFMPEG_FORMS += [("x.wv", "wavpack", {}), ("x.caf", "alac", {})]
FFMPEG_FORMS += [(name, "libmp3lame", {}) for name in ("x.avi", "x.wav")]
FFMPEG_FORMS += [("x.m4a", codec, {"movflags": "faststart"}) for codec in ("aac", "alac")]
FFMPEG_FORMS += [
    ("fragments.mp4", "aac", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}),
    ("x.amr", "libopencore_amrnb", {"rate": 8000}),
    ("x.webm", "libopus", {"rate": 48000}),
    ("live.webm", "libopus", {"rate": 48000, "form": "webm", "live": "1"}),
    ("x.wma", "wmav2", {"form": "asf"}),
]
JOINED_BY_FFMPEG = ("x.aac", "x.ac3", "x.eac3")


@pytest.mark.parametrize(("name", "codec", "options"), FFMPEG_FORMS)
def test_formats_of_ffmpeg_are_read_whole_or_refused(tmp_path, name, codec, options):
    content = by_ffmpeg(tmp_path / name, codec, **options)
    samples = load_audio(tmp_path / name)
    assert len(samples) / RATE == pytest.approx(SECONDS, abs=0.1)
    assert np.abs(np.fft.rfft(samples[RATE : 2 * RATE])).argmax() == 440
    for share in (0.61, 0.97):
        assert_refused(content[: int(len(content) * share)], tmp_path, r"cut off|damaged", name)
    if name in JOINED_BY_FFMPEG:
        assert seconds_of(content * 2, tmp_path, name) == pytest.approx(2 * SECONDS, abs=0.2)
    else:
        assert_refused(content * 2, tmp_path, r"joined|cut off|damaged", name)
    if codec not in ("alac", "wmav2") and name != "x.avi":  # which do not show it
        assert_refused(without_middle(content, 1000), tmp_path, r"cut off|damaged", name)


def test_codecs_that_nobody_knows_and_second_streams_are_told(tmp_path):
    content = by_ffmpeg(tmp_path / "x.mkv", "aac", streams=2)
    with pytest.warns(AudioWarning, match="has 2 streams of audio: only the first was read"):
        assert len(load_audio(tmp_path / "x.mkv")) / RATE == pytest.approx(SECONDS, abs=0.1)
    assert_refused(content.replace(b"A_AAC", b"A_XYZ"), tmp_path, "codec")


def test_kinds_of_which_nobody_knows_whether_they_are_whole_are_named():
    for form in ("PAF", "PVF", "IRCAM", "AVR", "MAT4", "MAT5", "MPC2K", "WVE", "XI", "SDS", "HTK"):
        content = written(noise(), RATE, format=form, subtype=next(iter(soundfile.available_subtypes(form))))
        with pytest.raises(InputError, match=r"x: is .+\(.*\), which is not read.*convert it to WAV"):
            decode_bytes(content, "x")


def test_what_is_no_audio_is_said_to_be_none(tmp_path):
    """Even where FFmpeg would guess: it takes many bytes for GSM at 8 kHz."""
    content = written(noise(), RATE, format="RAW", subtype="GSM610")
    assert_refused(content, tmp_path, "no kind of audio file that is known here")
    for content in (b"<!DOCTYPE html><html>404</html>", bytes(5000), b"just text, and more of it", b""):
        assert_refused(content, tmp_path, "^(?!.*does not exist).*cannot be read as audio", "x.mp3")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg, "is_available", lambda: False)
    for name, head in (
        ("x.m4a", b"\0\0\0\x20ftypM4A "),
        ("x.mkv", b"\x1a\x45\xdf\xa3\x80\xec\x4b\xd0"),  # an empty head, and 3024 bytes that are left out
        ("x.wma", b"\x30\x26\xb2\x75"),
    ):
        message = r"pip install 'hear_byols\[formats\]'|is cut off"
        assert_refused(head.ljust(32, b"\0") + bytes(3000), tmp_path, message, name)
