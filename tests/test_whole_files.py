"""A file is read whole or refused: joined, cut off, damaged, of unknown length, and in formats of another library."""

from __future__ import annotations

import io
import os
import struct
import warnings
from pathlib import Path

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
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "float wav": {"format": "WAV", "subtype": "FLOAT"},
    "adpcm wav": {"format": "WAV", "subtype": "IMA_ADPCM"},
    "rf64": {"format": "RF64", "subtype": "PCM_16"},
    "w64": {"format": "W64", "subtype": "PCM_16"},
    "aiff": {"format": "AIFF", "subtype": "PCM_16"},
    "aifc": {"format": "AIFF", "subtype": "FLOAT"},
    "au": {"format": "AU", "subtype": "PCM_16"},
    "caf": {"format": "CAF", "subtype": "PCM_16"},
    "nist": {"format": "NIST", "subtype": "PCM_16"},
    "voc": {"format": "VOC", "subtype": "PCM_16"},
    "svx": {"format": "SVX", "subtype": "PCM_16"},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III"},
    "vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
JOINED = ("mp3", "vorbis", "opus")  # formats whose joined files are read whole; others are refused
TELLS_SECONDS = ("wav", "rf64", "w64", "aiff", "au", "mp3", "nist", "svx")
HAS_STRUCTURE = ("flac", "mp3", "vorbis", "opus")  # that shows where something is missing in the middle


def noise(seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    audio = 0.1 * np.random.default_rng(0).standard_normal((round(seconds * RATE), channels))
    return audio.astype(np.float32)


def encoded(form: str, audio: np.ndarray | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise() if audio is None else audio, RATE, **FORMS[form], **options)
    return buffer.getvalue()


def seconds_of(content: bytes, folder: Path, name: str = "x.bin") -> float:
    (folder / name).write_bytes(content)
    return len(load_audio(folder / name)) / RATE


def assert_refused(content: bytes, folder: Path, message: str, name: str = "x.bin") -> None:
    with pytest.raises(InputError, match=message):
        seconds_of(content, folder, name)


@pytest.mark.parametrize("form", FORMS)
def test_files_are_read_whole_or_refused(tmp_path, form):
    """Whole, with padding behind, cut off, joined, and zeroed in the middle."""
    content = encoded(form)
    for variant in (content, content + bytes(64)):
        assert seconds_of(variant, tmp_path) == pytest.approx(SECONDS, abs=0.05)
        assert audio_seconds(tmp_path / "x.bin") == pytest.approx(SECONDS, abs=0.1)
        assert len(decode_bytes(variant, "x")) / RATE == pytest.approx(SECONDS, abs=0.05)
    told = r"it holds [1-4]\.\d+ s of the 4\.\d+ s that its header announces" if form in TELLS_SECONDS else ""
    for share in (0.3, 0.6, 0.97):
        cut = rf"x\.bin: (is cut off|is damaged|cannot be read).*{told}"
        assert_refused(content[: int(len(content) * share)], tmp_path, cut)
    if form in HAS_STRUCTURE:
        zeroed = bytearray(content)
        zeroed[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
        assert_refused(bytes(zeroed), tmp_path, r"is damaged|is cut off")
    if form not in JOINED:
        assert_refused(content + content, tmp_path, "holds more than")
        return
    assert seconds_of(content + content, tmp_path) == pytest.approx(2 * SECONDS, abs=0.1)
    assert audio_seconds(tmp_path / "x.bin") == pytest.approx(2 * SECONDS, abs=0.2)
    stereo = encoded(form, noise(channels=2))
    assert seconds_of(content * 2 + stereo, tmp_path) == pytest.approx(3 * SECONDS, abs=0.1)


def test_a_lost_page_of_ogg_is_found(tmp_path):
    content = encoded("opus")
    places = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
    message = r"page 4 follows page 2; \d\.\d\d s could be read before it"
    assert_refused(content[: places[3]] + content[places[4] :], tmp_path, message)


# Lengths of WAV and its like


def with_length(content: bytes, length: int) -> bytes:
    place = content.index(b"data") + 4
    return content[:place] + struct.pack("<I", length) + content[place + 4 :]


def test_the_lengths_that_pipes_write_are_read_to_the_end(tmp_path):
    """Also where chunks follow the samples."""
    whole = decode_bytes(encoded("wav"), "file")
    for length in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0):
        content = with_length(encoded("wav"), length)
        for behind in (b"", b"LIST\4\0\0\0INFO", b"LIST\5\0\0\0INFOx\0id3 \3\0\0\0abc"):
            np.testing.assert_array_equal(decode_bytes(content + behind, "pipe"), whole)
    au = bytearray(encoded("au"))
    au[8:12] = b"\xff\xff\xff\xff"
    assert seconds_of(bytes(au), tmp_path) == SECONDS


@pytest.mark.parametrize("form", ["wav", "float wav"])
def test_a_length_that_is_too_small_is_refused(tmp_path, form):
    content = with_length(encoded(form), RATE * (4 if "float" in form else 2))
    assert_refused(content, tmp_path, r"the header says 1\.00 s, and 3\.00 s more follow")


def test_a_length_that_passed_4_gb_is_refused(tmp_path):
    content = encoded("wav", np.zeros((0, 1)))
    n_bytes = (1 << 32) + 64_000
    with open(tmp_path / "big.wav", "wb") as file:
        file.write(with_length(content, n_bytes % (1 << 32)))
        file.truncate(len(content) + n_bytes)  # sparse
    with pytest.raises(InputError, match=r"the header says 2\.00 s, and 134217\.73 s more follow"):
        load_audio(tmp_path / "big.wav")


def test_chunks_and_tags_behind_the_samples_are_no_samples(tmp_path):
    content = encoded("wav")
    for behind in (b"LIST\4\0\0\0INFO", b"id3 \1\0\0\0x\0", b"LIST\xff\xff\0\0cut off", b"TAG" + bytes(125)):
        assert seconds_of(content + behind, tmp_path) == SECONDS


def test_absurd_rates_are_refused(tmp_path):
    content = bytearray(encoded("wav"))
    for rate in (4_000_000, 768_001, 999, 1):
        content[24:28] = struct.pack("<I", rate)
        message = f"has a rate of {rate} Hz; rates from 1000 to 768000 Hz are read"
        assert_refused(bytes(content), tmp_path, message)


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
    content = bytearray(whole)
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # the number of samples, of 36 bits
    assert seconds_of(bytes(content), tmp_path, "pipe.flac") == SECONDS
    np.testing.assert_array_equal(load_audio(tmp_path / "pipe.flac"), decode_bytes(whole, "whole"))
    assert_refused(bytes(content[:-3000]), tmp_path, "is damaged")


def variable_mp3(seconds: float = 10.0) -> tuple[bytes, int]:
    """An MP3 of variable bit rate, dense in its first second; and the bytes of the frame that says how long it is."""
    audio = 0.2 * np.sin(np.arange(round(seconds * 44100)) / 16)
    audio[:44100] = 0.3 * np.random.default_rng(0).standard_normal(44100)
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, 44100, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    content = buffer.getvalue()
    first = content.index(b"\xff\xfb", 4)
    assert b"Xing" in content[:first]
    return content, first


def test_mp3_of_variable_rate_without_a_length_is_read_whole(tmp_path):
    content, first = variable_mp3()
    for variant in (content, content[first:], content[first:] * 2):
        expected = 10 * (2 if len(variant) > len(content) else 1)
        assert seconds_of(variant, tmp_path) == pytest.approx(expected, abs=0.1)
        assert audio_seconds(tmp_path / "x.bin") == pytest.approx(expected, abs=0.2)
    middle = len(content) // 2
    assert_refused(content[first:middle] + bytes(5000) + content[middle + 5000 :], tmp_path, "among its frames")


def test_mp3_that_ends_within_a_frame_and_has_no_length_is_read_with_a_warning(tmp_path):
    content, first = variable_mp3()
    (tmp_path / "stream.mp3").write_bytes(content[first:-50])
    with pytest.warns(AudioWarning, match=r"stream\.mp3: ends within a frame"):
        load_audio(tmp_path / "stream.mp3")


def test_mp3_with_a_tag_that_hides_audio_is_refused_and_what_begins_within_a_frame_is_said(tmp_path):
    content, first = variable_mp3()
    assert_refused(b"ID3\x04\0\0\0\0\x60\0" + content, tmp_path, "hides audio")
    with pytest.warns(AudioWarning, match=r"begins with \d+ bytes that hold no audio"):
        seconds_of(content[first + 50 :], tmp_path)


def test_mp3_whose_last_bytes_are_zeros_is_refused_and_tags_behind_it_may_be_large(tmp_path):
    content, first = variable_mp3()
    n_zeros = 20_000
    message = r"the last \d+ bytes hold no audio; \d\.\d\d s were read before them"
    assert_refused(content[first:-n_zeros] + bytes(n_zeros), tmp_path, message)
    with pytest.warns(AudioWarning, match=r"ends in \d+ bytes that hold no audio"):
        seconds_of(content[first:] + b"<html>" * 1000, tmp_path)
    ends = [b"APETAGEX" + struct.pack("<IIII", 2000, 200_032, 1, flags << 29) + bytes(8) for flags in (5, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seconds_of(content + ends[0] + bytes(200_000) + ends[1], tmp_path) == pytest.approx(10, abs=0.1)


# Channels, sources, rates


def test_channels_that_cancel_each_other_give_a_warning(tmp_path):
    audio = noise()
    cases = {"anti": ([1, -1], True), "nearly": ([1, -0.9], True), "stereo": ([1, 1], False), "left": ([1, 0], False)}
    for name, (gains, is_warned) in cases.items():
        soundfile.write(tmp_path / f"{name}.wav", audio * gains, RATE, subtype="FLOAT")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_audio(tmp_path / f"{name}.wav")
        assert [w.category for w in caught] == [AudioWarning] * is_warned, name
    soundfile.write(tmp_path / "apart.wav", np.random.default_rng(1).normal(0, 0.1, (RATE, 16)), RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(tmp_path / "apart.wav")


def test_paths_of_any_kind_and_open_files_are_read(tmp_path):
    content = encoded("wav")
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with open(path, "rb") as file:
        for source in (path, str(path), bytes(path), file, io.BytesIO(content)):
            assert len(load_audio(source)) == SECONDS * RATE


def test_what_is_no_file_is_refused(tmp_path):
    closed = io.BytesIO()
    closed.close()
    for source, message in (
        ("", "the path is empty"),
        (None, "got NoneType"),
        (3, "got int"),
        (encoded("wav"), "a path holds no NUL, .*BytesIO"),
        (io.StringIO("text"), "open for reading bytes"),
        (closed, "cannot be read .*closed"),
        (io.BytesIO(), "it is empty"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_audio(source)
        assert len(str(caught.value)) < 300
    with open(tmp_path / "x.wav", "wb") as file, pytest.raises(InputError, match=r"x\.wav: cannot be read"):
        load_audio(file)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match="is not a file"):
        load_audio(tmp_path / "pipe.wav")


def test_rates_to_resample_to_are_checked():
    for rate in (0, -1, 1.5, True, "16000", 768_001):
        with pytest.raises(OptionError, match="sample_rate must be an integer from 1 to 768000 Hz"):
            decode_bytes(encoded("wav"), "x", rate)
    assert len(decode_bytes(encoded("wav"), "x", np.int64(8000))) == SECONDS * 8000


@pytest.mark.parametrize("form", ["wav", "opus"])
def test_what_would_not_fit_into_memory_is_refused_before_it_is_taken(tmp_path, monkeypatch, form):
    (tmp_path / "x.bin").write_bytes(encoded(form))
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * round(SECONDS * RATE) - 8)
    with pytest.raises(InputError, match="not enough memory to decode it"):
        load_audio(tmp_path / "x.bin")
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * round(SECONDS * RATE) + 800)
    assert len(load_audio(tmp_path / "x.bin")) == SECONDS * RATE
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


FFMPEG_FORMS = [
    ("x.m4a", "aac", {"movflags": "faststart"}),
    ("x.mp4", "aac", {}),
    ("fragments.mp4", "aac", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}),
    ("x.m4a", "alac", {"movflags": "faststart"}),
    ("x.aac", "aac", {}),
    ("x.ac3", "ac3", {}),
    ("x.eac3", "eac3", {}),
    ("x.amr", "libopencore_amrnb", {"rate": 8000}),
    ("x.webm", "libopus", {"rate": 48000}),
    ("live.webm", "libopus", {"rate": 48000, "form": "webm", "live": "1"}),
    ("x.mkv", "aac", {}),
    ("x.wma", "wmav2", {"form": "asf"}),
    ("x.flv", "aac", {}),
    ("x.avi", "libmp3lame", {}),
    ("x.caf", "alac", {}),
    ("x.wav", "libmp3lame", {}),
    ("x.wv", "wavpack", {}),
    ("x.tta", "tta", {}),
]
JOINED_BY_FFMPEG = ("x.aac", "x.ac3", "x.eac3")


@pytest.mark.parametrize(("name", "codec", "options"), FFMPEG_FORMS)
def test_formats_of_ffmpeg_are_read_whole_or_refused(tmp_path, name, codec, options):
    content = by_ffmpeg(tmp_path / name, codec, **options)
    samples = load_audio(tmp_path / name)
    assert len(samples) / RATE == pytest.approx(SECONDS, abs=0.1)
    middle = samples[RATE : 2 * RATE]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    for share in (0.61, 0.97):
        with pytest.raises(InputError, match=r"cut off|damaged"):
            seconds_of(content[: int(len(content) * share)], tmp_path, name)
    if name in JOINED_BY_FFMPEG:
        assert seconds_of(content * 2, tmp_path, name) == pytest.approx(2 * SECONDS, abs=0.2)
    else:
        with pytest.raises(InputError, match=r"joined|cut off|damaged"):
            seconds_of(content * 2, tmp_path, name)
    if codec not in ("alac", "wmav2") and name != "x.avi":  # which do not show it
        zeroed = bytearray(content)
        zeroed[len(content) // 2 : len(content) // 2 + 1000] = bytes(1000)
        with pytest.raises(InputError, match=r"cut off|damaged"):
            seconds_of(bytes(zeroed), tmp_path, name)


def test_a_codec_that_nobody_knows_is_one_error(tmp_path):
    content = by_ffmpeg(tmp_path / "x.mkv", "aac")
    assert_refused(content.replace(b"A_AAC", b"A_XYZ"), tmp_path, "codec")


def test_of_several_streams_of_audio_it_is_said_that_one_was_read(tmp_path):
    by_ffmpeg(tmp_path / "x.mkv", "aac", streams=2)
    with pytest.warns(AudioWarning, match="has 2 streams of audio: only the first was read"):
        assert len(load_audio(tmp_path / "x.mkv")) / RATE == pytest.approx(SECONDS, abs=0.1)


def test_kinds_of_which_nobody_knows_whether_they_are_whole_are_named():
    for form in ("PAF", "PVF", "IRCAM", "AVR", "MAT4", "MAT5", "MPC2K", "WVE", "XI", "SDS", "HTK"):
        buffer = io.BytesIO()
        soundfile.write(buffer, noise(), RATE, format=form, subtype=next(iter(soundfile.available_subtypes(form))))
        with pytest.raises(InputError, match=r"x: is .+\(.*\), which is not read.*convert it to WAV"):
            decode_bytes(buffer.getvalue(), "x")


def test_what_only_a_guess_takes_for_audio_is_not_read(tmp_path):
    """FFmpeg takes many bytes for GSM at 8 kHz."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(), RATE, format="RAW", subtype="GSM610")
    assert_refused(buffer.getvalue(), tmp_path, "no kind of audio file that is known here")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ffmpeg, "is_available", lambda: False)
    for name, head in (
        ("x.m4a", b"\0\0\0\x20ftypM4A "),
        ("x.mkv", b"\x1a\x45\xdf\xa3\x80\xec\x4b\xd0"),  # an empty head, and 3024 bytes that are left out
        ("x.wma", b"\x30\x26\xb2\x75"),
    ):
        (tmp_path / name).write_bytes(head.ljust(32, b"\0") + bytes(3000))
        with pytest.raises(InputError, match=r"pip install 'hear_byols\[formats\]'|is cut off"):
            load_audio(tmp_path / name)


def test_what_is_no_audio_is_not_said_to_be_missing(tmp_path):
    for content in (b"<!DOCTYPE html><html>404</html>", bytes(5000), b"just text, and more of it", b""):
        (tmp_path / "x.mp3").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as audio") as caught:
            load_audio(tmp_path / "x.mp3")
        assert "does not exist" not in str(caught.value)
