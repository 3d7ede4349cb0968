"""Detectors of events: learnt from the label files of people's tools, and written as such."""

import shutil
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from made_sounds import CLASSES, MODEL, RATE, command, make

from hear_byols import load_audio
from hear_byols.answers import detector as detector_module
from hear_byols.answers.cutting import Cutting, choose_cutting, count_onsets, cut
from hear_byols.answers.detector import Detector, Found, LabelledRecording, targets_of, windows
from hear_byols.answers.event_scores import labelled_recordings, score_detector
from hear_byols.answers.label_files import SUFFIXES, find_label_file, read_events, write_events
from hear_byols.audio import stream_audio
from hear_byols.config import EncoderConfig, ModelConfig, NormalizationConfig
from hear_byols.errors import InputError, OptionError
from hear_byols.evaluation.scores import event_scores
from hear_byols.evaluation.tasks import Event
from hear_byols.model import EmbeddingModel

EVENTS = (
    Event("hum", 250, 1000.5),
    Event("clicks", 600, 900),
    Event('say "hi"', 2000, 2500),
    Event("=1+1", 3000, 3100),
    Event("überall 5", 3200, 3300),
)


# --- Label files ---


@pytest.mark.parametrize("form", SUFFIXES)
def test_label_files_give_back_what_was_written(tmp_path, form):
    path = tmp_path / ("a.wav" + SUFFIXES[form])
    write_events(path, form, EVENTS, [0.25] * 5, 4.0)
    assert read_events(path) == list(EVENTS)
    assert find_label_file(tmp_path, tmp_path / "a.wav") == path
    assert find_label_file(tmp_path, tmp_path / "b.wav") is None
    if form == "raven":
        header, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
        assert header[:5] == ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"]
        assert header[5:8] == ["Low Freq (Hz)", "High Freq (Hz)", "Annotation"]
        assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
        assert (rows[0][4], rows[3][7]) == ("1.000500", "'=1+1")
    write_events(path, form, (), (), 4.0)
    assert read_events(path) == []
    (tmp_path / "a.tsv").write_text("")
    with pytest.raises(OptionError, match="several"):
        find_label_file(tmp_path, tmp_path / "a.wav")


def test_files_of_the_tools_themselves_are_read(tmp_path):
    raven = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
        "1\tWaveform 1\t1\t0.5\t1.5\t0\t100\tfox\n1\tSpectrogram 1\t1\t0.5\t1.5\t0\t100\tfox\n"
    )
    short = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n4\n<exists>\n2\n"IntervalTier"\n"words 2"\n0\n4\n2\n'
        '0\n0.5\n""\n0.5\n1.5\n"fox"\n"TextTier"\n"marks"\n0\n4\n1\n2.5\n"tick [1] 7"\n'
    )
    audacity = "0,5\t1.5\tfox\n\\\t100.0\t2000.0\n2.0\t2.0\ta point\n3.0\t4.0\t\n"
    for name, text, more, encoding in (
        ("a.txt", audacity, [Event("a point", 2000, 2000)], "utf-8"),
        ("b.txt", raven, [], "utf-8"),
        ("c.TextGrid", short, [Event("tick [1] 7", 2500, 2500)], "utf-16"),
        ("d.csv", "onset,offset,label\n0.5,1.5,fox\n", [], "utf-8"),
    ):
        (tmp_path / name).write_text(text, encoding=encoding)
        assert read_events(tmp_path / name) == [Event("fox", 500, 1500), *more]


def test_what_is_no_label_file_is_named(tmp_path):
    for name, text in (
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", "start,end,label\nx,2,fox\n"),
        ("a.csv", "start,end,label\n1\n"),
        ("a.txt", "1.0\t0.5\tfox\n"),
        ("a.txt", "1.0\tnan\tfox\n"),
        ("a.txt", "-1\t2\tfox\n"),
        ("a.txt", "no labels at all\n"),
        ("a.TextGrid", 'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n4\n<exists>\n2\n"IntervalTier"\n'),
        ("a.TextGrid", "nothing"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name):
            read_events(tmp_path / name)


# --- From scores to events ---


def test_onsets_are_counted_as_sed_eval_does():
    pytest.importorskip("sed_eval")
    rng = np.random.default_rng(0)
    for _ in range(5):
        starts = [np.sort(rng.uniform(0, 8000, n)).tolist() for n in (12, 15)]
        ours, theirs = ([Event("ab"[rng.integers(2)], s, s + 100) for s in each] for each in starts)
        right, found, there = count_onsets(ours, theirs, ["a", "b"]).sum(0)
        expected = event_scores("event_onset_200ms_fms", {"x": ours}, {"x": theirs}, ["a", "b"])
        assert 2 * right / (found + there) == pytest.approx(expected["event_onset_200ms_fms"], abs=1e-6)


def test_thresholds_and_durations_are_chosen_by_class():
    times = np.arange(0, 10000, 50.0)
    rng = np.random.default_rng(1)
    values, references = [], []
    for _ in range(6):
        value = 0.25 * rng.uniform(size=(len(times), 2))
        events = []
        for label, (i, height) in {"a": (0, 0.45), "b": (1, 0.9)}.items():
            for start in rng.choice(16, 4, replace=False) * 600 + 100:
                events.append(Event(label, float(start), float(start + 400)))
                value[(times >= start) & (times <= start + 400), i] = height
        value[rng.integers(len(times), size=3), 1] = 0.7  # clicks that are no events
        values.append(value)
        references.append(events)
    cutting, scores = choose_cutting(values, [times] * 6, references, ("a", "b"), np.arange(6) % 3)
    assert scores["onset_f"] > 0.95
    assert cutting.thresholds[0] < 0.45
    found = cut(values[0], times, cutting, ("a", "b"))
    assert count_onsets(found, references[0], ("a", "b"))[:, 0].tolist() == [4, 4]
    assert Cutting.from_dict(asdict(cutting)) == cutting


# --- Stretches ---


@pytest.mark.parametrize("seconds", [0.02, 1.0, 2.9, 3.1, 7.3])
def test_stretches_give_every_window_once_and_as_the_whole_does(tmp_path, monkeypatch, seconds):
    """In mode "dataset" a window depends on its own samples only, so stretches must change nothing."""
    monkeypatch.setattr(detector_module, "STRETCH_S", 2)
    torch.manual_seed(0)
    norm = NormalizationConfig("dataset", -5.0, 4.0)
    model = EmbeddingModel(ModelConfig(EncoderConfig("cnn", 2048), normalization=norm), frame_ms=330, hop_ms=70)
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 22050))
    soundfile.write(tmp_path / "a.wav", samples, 22050)
    whole, times = model.timestamp_embeddings(load_audio(tmp_path / "a.wav")[None])
    parts = list(windows(tmp_path / "a.wav", model))
    assert len(parts) == max(1, round(seconds / 2)) or seconds > 7
    np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), times[0])
    np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), whole[0], atol=2e-4)


def test_a_stream_is_the_file(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, (300000, 2)), 44100)
    blocks = list(stream_audio(tmp_path / "a.flac", 16000))
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), load_audio(tmp_path / "a.flac"))
    (tmp_path / "b.wav").write_bytes(b"nothing")
    for name in ("b.wav", "gone.wav"):
        with pytest.raises(InputError, match=name):
            list(stream_audio(tmp_path / name))


# --- The whole way ---


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """Six labelled recordings, one that is not, and a detector that was learnt from them."""
    home = tmp_path_factory.mktemp("garden")
    (home / "audio").mkdir()
    rng = np.random.default_rng(4)
    for k, form in enumerate((*SUFFIXES, "csv", "audacity", "none")):
        samples, events = 0.01 * rng.uniform(-1, 1, 8 * RATE), []
        for start in (1.0, 3.0, 5.0, 7.0):
            label = CLASSES[rng.integers(3)]
            first = round((start + rng.uniform(-0.3, 0.3)) * RATE)
            sound = make(label, 0.6, rng)
            samples[first : first + len(sound)] += sound
            events.append(Event(label, 1000 * first / RATE, 1000 * (first + len(sound)) / RATE))
        soundfile.write(home / "audio" / f"{k}.wav", samples, RATE)
        truth = home / ("truth" if form == "none" else "labels") / f"{k}.wav{SUFFIXES.get(form, '.csv')}"
        write_events(truth, form if form != "none" else "csv", events, [1.0] * 4, 8.0)
    options = ("--events", home / "labels", "-m", MODEL, "--frame-ms", 400, "--hop-ms", 100, "-q")
    assert command("classify", "train", home / "audio", *options, "-o", home / "garden.hbc") == 0
    return home


def test_events_are_learnt_and_found_in_a_new_recording(garden, tmp_path, capsys):
    """And what cannot be read is named."""
    detector = Detector.load(garden / "garden.hbc", device="cpu")
    assert detector.classes == CLASSES
    assert detector.scores["onset_f"] > 0.6
    shutil.copy(garden / "audio" / "6.wav", tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert command("detect", garden / "garden.hbc", tmp_path, "-o", out, "-f", *SUFFIXES) == 1
    error = capsys.readouterr().err
    assert "events in 1 recordings" in error
    assert "bad.wav" in error
    found = {form: read_events(out / f"6.wav{suffix}") for form, suffix in SUFFIXES.items()}
    right, n_found, _ = count_onsets(found["csv"], read_events(garden / "truth" / "6.wav.csv"), CLASSES).sum(0)
    assert right >= 3
    assert n_found <= 6
    for events in found.values():
        assert [e.label for e in events] == [e.label for e in found["csv"]]
        np.testing.assert_allclose([e.start for e in events], [e.start for e in found["csv"]], atol=1e-2)


def test_a_detector_is_scored_by_the_fields_libraries(garden, capsys):
    pytest.importorskip("sed_scores_eval")
    assert command("classify", "evaluate", garden / "garden.hbc", garden / "audio", "--events", garden / "truth") == 0
    scores = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(scores["event_onset_200ms_fms"]) > 0.5
    assert 0 <= float(scores["psds1"]) <= 1


def test_what_is_found_without_fault_scores_one(tmp_path):
    pytest.importorskip("sed_scores_eval")
    events = [Event("a", 1000, 2000), Event("b", 3000, 4500), Event("a", 6000, 6500)]
    times = np.arange(0, 8000, 50.0)

    class Perfect(Detector):
        classes, model = ("a", "b"), SimpleNamespace(framing=SimpleNamespace(hop_ms=50.0))

        def probabilities(self, path):
            return times, 0.1 + 0.8 * targets_of(events, times, self.classes)

        def cut(self, times, values):
            return Found(tuple(events), (1.0,) * 3, 8.0)

    scores, failures = score_detector(Perfect(), [LabelledRecording(tmp_path / "a.wav", events)])
    assert not failures
    assert (scores["event_onset_200ms_fms"], scores["segment_1s_er"]) == (1, 0)
    assert min(scores["psds1"], scores["psds2"]) > 0.99


def test_faults_are_named(garden, sounds, tmp_path, capsys):
    for arguments, message in (
        (["predict", garden / "garden.hbc", sounds, "-o", "x.csv"], "hear-byols detect"),
        (["train", sounds, "--events", tmp_path, "-o", tmp_path / "a.hbc"], "has a label file"),
    ):
        assert command("classify", *arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(OptionError, match="learnt nothing"):
        Detector(MODEL).detect(garden / "audio" / "6.wav")


@pytest.mark.memory
def test_a_long_recording_takes_no_more_memory_than_a_short_one(garden, tmp_path):
    detector = Detector(MODEL, frame_ms=400, hop_ms=400, device="cpu")
    detector.fit(labelled_recordings(garden / "audio", garden / "labels")[0])
    detector.save(tmp_path / "a.hbc")
    peaks = {}
    for minutes in (3, 33):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for second in range(60 * minutes):
                file.write(0.01 * np.random.default_rng(second).normal(size=RATE))
        program = f"""
import torch
from hear_byols._util.memory import peak_memory
from hear_byols.answers.detector import Detector
torch.set_num_threads(1)
print(Detector.load({str(tmp_path / "a.hbc")!r}, device="cpu").detect({str(path)!r}).seconds, peak_memory())"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds, peak = done.stdout.split()
        assert float(seconds) == pytest.approx(60 * minutes, abs=1)
        peaks[minutes] = int(peak)
    assert peaks[33] - peaks[3] < 60e6, peaks  # the half hour more has 115 MB of samples
