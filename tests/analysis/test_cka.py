"""CKA: its invariances, the estimator against its definition, minibatches against all windows at once."""

import csv
import itertools
from collections import OrderedDict

import numpy as np
import pytest
import soundfile
import torch
from extraction import noise, write_corpus

from hear_byols import load_model
from hear_byols.analysis.layers import named_layers, watching
from hear_byols.analysis.similarity import LayerGrams, _minibatches, compare_layers
from hear_byols.analysis.windows import read_windows
from hear_byols.cli.main import main
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import collect

pytestmark = pytest.mark.usefixtures("one_thread")

KERNELS = ["linear", "rbf"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clips(n: int) -> np.ndarray:
    return np.stack([noise(0.25, seed=i) for i in range(n)])


class Toy(torch.nn.Module):
    """A model as small as one can be around an encoder."""

    sample_rate, batch_size, device = 16000, None, torch.device("cpu")

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def scene_embeddings(self, audio: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.encoder(audio)


def linear(seed: int) -> Toy:
    """Two linear layers over the samples."""
    torch.manual_seed(seed)
    return Toy(torch.nn.Sequential(OrderedDict(fc1=torch.nn.Linear(20, 6), fc2=torch.nn.Linear(6, 4))))


def cka(x: torch.Tensor, y: torch.Tensor, kernel: str) -> float:
    """As the package computes it of two models, whose activations stand side by side in the windows."""
    size = x.shape[1]
    models = Toy(torch.nn.Module()), Toy(torch.nn.Module())
    models[0].encoder.forward, models[1].encoder.forward = lambda audio: audio[:, :size], lambda audio: audio[:, size:]
    return compare_layers(*models, torch.cat([x, y], 1).numpy(), kernel=kernel).values.item()


def slow_cka(x: torch.Tensor, y: torch.Tensor, kernel: str) -> float:
    """CKA over all examples, pair by pair, with HSIC as a mean over all ordered fours of different examples."""

    def matrix(values: torch.Tensor) -> np.ndarray:
        rows = values.flatten(1).double().numpy()
        if kernel == "linear":
            return np.array([[a @ b for b in rows] for a in rows])
        distances = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        pairs = sorted(distances[i, j] for i, j in itertools.combinations(range(len(rows)), 2))
        return np.exp(-(distances**2) / (2 * pairs[(len(pairs) - 1) // 2] ** 2))

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        i, j, q, r = np.array(list(itertools.permutations(range(len(k)), 4))).T
        return np.mean(k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q])

    k, m = matrix(x), matrix(y)
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_equals_its_definition_whatever_the_rotation_scale_and_shift():
    x, y = normal(12, 10), normal(12, 10) + normal(12, 10, seed=1)
    rotation = torch.linalg.qr(normal(10, 10, seed=2)).Q
    stretched = x * torch.tensor([30.0] + [1.0] * 9)  # no isotropic scaling: the geometry is another
    for kernel in KERNELS:
        value = slow_cka(x, y, kernel)
        assert 0.1 < value < 0.9
        assert cka(x, y, kernel) == pytest.approx(value, rel=1e-9)
        assert cka(x @ rotation, y, kernel) == pytest.approx(value, abs=1e-5)
        assert cka(1000 * x, 0.01 * y, kernel) == pytest.approx(value, abs=1e-5)
        assert cka(x + 100, y, kernel) == pytest.approx(value, abs=1e-4)
        assert abs(cka(stretched, y, kernel) - value) > 0.05


def seen_by(model, windows: np.ndarray, detail: str = "blocks") -> dict[str, torch.Tensor]:
    """Activations by layer, in the order in which they come, all kept: what the package never does."""
    seen: dict[str, torch.Tensor] = {}
    model.batch_size = len(windows)
    with watching(named_layers(model, detail), seen.__setitem__):
        model.scene_embeddings(torch.from_numpy(windows))
    return seen


CVT = [f"stage {i} / {part}" for i in (1, 2, 3) for part in ("tokens", "attention", "feed-forward", "output")]
RESNET = [f"stage {i} / block {j + 1}" for i, n in enumerate((3, 4, 6, 3), 1) for j in range(n)]
IN_RESNET = {"stem / convolution", "stage 2 / block 1 / shortcut / convolution", "stage 4 / block 3 / batch norm 1"}


@pytest.mark.parametrize(
    ("name", "steps", "within"),
    [
        ("random_cnn", ["block 1", "block 2", "block 3", "linear 1", "linear 2"], {"block 1 / batch norm"}),
        ("random_clstm", ["block 1", "block 2", "LSTM", "linear"], {"block 2 / batch norm"}),
        ("random_cvt", CVT, {"stage 3 / attention / keys and values"}),
        ("random_resnetish34", RESNET, IN_RESNET),
    ],
)
def test_layers_have_readable_names_and_each_its_own_activation(name, steps, within):
    model = load_model(name)
    blocks, everything = (seen_by(model, clips(1), detail) for detail in ("blocks", "all"))
    assert list(blocks) == [*steps, "embedding"]
    assert set(blocks) == set(named_layers(model))
    assert set(blocks) <= set(everything)
    assert list(everything)[-1] == "embedding"
    for seen in (blocks, everything):
        assert len({activation.data_ptr() for activation in seen.values()}) == len(seen)
    names = set(named_layers(model, "all"))
    assert names > within
    assert not any({"_", "."} & set(layer) for layer in names)


@pytest.mark.parametrize("kernel", KERNELS)
def test_models_compare_as_their_stored_activations_do(kernel):
    cnn, cvt, windows = load_model("random_cnn"), load_model("random_cvt"), clips(9)
    similarity = compare_layers(cnn, cvt, windows, kernel=kernel)
    kept_a, kept_b = seen_by(cnn, windows), seen_by(cvt, windows)
    assert similarity.layers_a == tuple(kept_a)
    assert similarity.layers_b == tuple(kept_b)
    for i, x in enumerate(kept_a.values()):
        for j in (0, 5, -1):
            slow = slow_cka(x, list(kept_b.values())[j], kernel)
            assert similarity.values[i, j] == pytest.approx(slow, abs=1e-6)


def test_minibatches_have_no_bias(monkeypatch):
    """The mean over all ways to leave one window out is the estimate from all windows, to the last digits."""
    windows = (normal(9, 20) * torch.linspace(0.2, 3, 20)).numpy()
    whole = compare_layers(linear(1), linear(5), windows, batch_size=9)
    each = [np.delete(np.arange(9), i) for i in range(9)]
    monkeypatch.setattr("hear_byols.analysis.similarity._minibatches", lambda *args: each)
    assert compare_layers(linear(1), linear(5), windows).values == pytest.approx(whole.values, abs=1e-6)


def test_every_window_comes_once_a_pass():
    batches = list(_minibatches(21, 8, passes=2, seed=0))
    assert [len(batch) for batch in batches] == [7] * 6
    first, second = np.concatenate(batches[:3]), np.concatenate(batches[3:])
    assert sorted(first) == sorted(second) == list(range(21))
    assert not np.array_equal(first, second)


def test_a_model_is_itself_and_left_as_it_was():
    model = load_model("random_cnn", batch_size=3).train()
    own = compare_layers(model, model, clips(12))
    assert np.diag(own.values) == pytest.approx(1, abs=1e-12)
    assert own.values == pytest.approx(own.values.T, abs=1e-12)
    again = compare_layers(model, load_model("random_cnn"), clips(12))
    assert again.values == pytest.approx(own.values, abs=1e-9)
    assert model.batch_size == 3
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_layer_that_does_not_vary_is_told(kernel, caplog):
    model = linear(1)
    model.encoder.fc2.weight.data.zero_()
    values = compare_layers(model, linear(5), normal(8, 20).numpy(), kernel=kernel).values
    assert "do not vary over the windows, so nothing is similar to them: linear 2, embedding" in caplog.text
    assert np.isnan(values).all(1).tolist() == [False, True, True]


def test_rbf_has_the_bandwidth_of_the_first_minibatch_times_what_is_asked():
    first, second = torch.from_numpy(clips(8)).split(4)
    grams = LayerGrams(load_model("random_cnn"), kernel="rbf")
    grams(first)
    kept = grams(second)
    alone, wider = (LayerGrams(grams.model, kernel="rbf", bandwidth=multiple)(second) for multiple in (1, 3))
    for other in (kept, wider):
        assert all(not torch.allclose(*pair, rtol=1e-3) for pair in zip(alone, other, strict=True))


def test_wrong_options_of_a_comparison():
    toy, windows = linear(1), normal(8, 20).numpy()
    for options, says in (
        ({"windows": windows[:3]}, "at least 4 examples, got 3"),
        ({"detail": "some"}, "detail must be one of blocks, all"),
        ({"kernel": "cosine"}, "kernel must be one of linear, rbf"),
        ({"bandwidth": 0}, "bandwidth must be a positive"),
        ({"batch_size": 7}, "batch_size must be at least"),
        ({"passes": 0}, "passes must be at least"),
    ):
        with pytest.raises(OptionError, match=says):
            compare_layers(**{"model_a": toy, "model_b": toy, "windows": windows, **options})


def test_windows_adjoin_short_files_are_followed_by_zeros_and_too_few_are_refused(tmp_path):
    ramp = (np.arange(35) / 100).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", ramp, 1000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", ramp[:4], 1000, subtype="FLOAT")
    windows = read_windows(collect([tmp_path]), 1000, window_ms=10)
    assert np.array_equal(windows.samples, [*ramp[:30].reshape(3, 10), np.pad(ramp[:4], (0, 6))])
    assert windows.n_files == 2
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"3 files gave 2 windows .* add audio .*bad\.wav: cannot be read"):
        read_windows(collect([tmp_path]), 1000)


def test_windows_are_drawn_from_all_files_and_the_rest_is_not_read(tmp_path):
    write_corpus(tmp_path, 12, (0.4,))
    files = collect([tmp_path])
    all_of_them = read_windows(files, 16000, window_ms=50).samples
    assert len(all_of_them) == 12 * 8
    drawn = read_windows(files, 16000, window_ms=50, most=10, seed=1)
    assert len(drawn.samples) == 10
    assert 4 < drawn.n_files < 11
    known = {window.tobytes() for window in all_of_them}
    assert len({window.tobytes() for window in drawn.samples} & known) == 10
    assert not np.array_equal(read_windows(files, 16000, window_ms=50, most=10, seed=2).samples, drawn.samples)


def test_the_command_writes_picture_table_and_arrays_and_reports_bad_files(tmp_path, capsys):
    write_corpus(tmp_path / "audio", 8)
    (tmp_path / "audio" / "bad.wav").write_bytes(b"no audio")
    output = tmp_path / "new" / "cka.png"
    arguments = ["--audio", str(tmp_path / "audio"), "--output", str(output), "--window-ms", "200", "--npz"]
    assert main(["cka", "random_cnn", "random_cvt", *arguments, "--device", "cpu"]) == 1
    assert "not read: bad.wav: " in capsys.readouterr().err
    assert output.read_bytes().startswith(b"\x89PNG")
    rows = list(csv.reader(output.with_suffix(".csv").read_text().splitlines()))
    arrays = np.load(output.with_suffix(".npz"))
    assert rows[0][1:] == arrays["layers_b"].tolist()
    assert [row[0] for row in rows[1:]] == arrays["layers_a"].tolist()
    assert np.array_equal(np.array([row[1:] for row in rows[1:]], float), arrays["values"])
    assert sorted(path.name for path in output.parent.iterdir()) == ["cka.csv", "cka.npz", "cka.png"]
