"""CKA: its invariances, the estimator against sums anyone can check, minibatches against all windows at once."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
import soundfile
import torch
from extraction import noise, write_corpus

from hear_byols import load_model
from hear_byols.analysis.kernels import (
    check_kernel,
    linear_gram,
    median_distance,
    normalized,
    rbf_gram,
    u_centred,
    unbiased_hsic,
)
from hear_byols.analysis.layers import named_layers, readable_name, watching
from hear_byols.analysis.similarity import LayerGrams, _minibatches, compare_layers
from hear_byols.analysis.windows import read_windows
from hear_byols.cli.main import main
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.files import collect

pytestmark = pytest.mark.usefixtures("one_thread")

ENCODERS = ["random_cnn", "random_resnetish34", "random_clstm", "random_cvt"]
KERNELS = ["linear", "rbf"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clips(n: int, seconds: float = 0.25) -> np.ndarray:
    return np.stack([noise(seconds, seed=i) for i in range(n)])


# ---- the estimator


def hsic_by_definition(k: torch.Tensor, m: torch.Tensor) -> float:
    """The unbiased estimator as what it is: a mean over all ordered fours of different examples."""
    fours = list(itertools.permutations(range(len(k)), 4))
    total = sum(k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q] for i, j, q, r in fours)
    return float(total / len(fours))


def test_hsic_equals_its_definition():
    for kernel in KERNELS:
        grams = [linear_gram(normal(7, 5, seed=i) + 3) for i in range(2)]
        if kernel == "rbf":
            grams = [rbf_gram(gram, median_distance(gram)) for gram in grams]
        a, b = (u_centred(gram)[None] for gram in grams)
        assert unbiased_hsic(a, b).item() == pytest.approx(hsic_by_definition(*grams), rel=1e-9)


def cka(x: torch.Tensor, y: torch.Tensor, kernel: str) -> float:
    """As the package computes it, of all examples at once."""
    grams = [linear_gram(activations) for activations in (x, y)]
    if kernel == "rbf":
        grams = [rbf_gram(gram, median_distance(gram)) for gram in grams]
    a, b = (u_centred(gram)[None] for gram in grams)
    return float(normalized(unbiased_hsic(a, b), unbiased_hsic(a, a)[0], unbiased_hsic(b, b)[0]))


def slow_cka(x: torch.Tensor, y: torch.Tensor, kernel: str) -> float:
    """CKA over all examples by Song's formula, pair by pair in plain loops."""

    def matrix(values: torch.Tensor) -> np.ndarray:
        rows = values.flatten(1).double().numpy()
        if kernel == "linear":
            return np.array([[a @ b for b in rows] for a in rows])
        distances = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        pairs = sorted(distances[i, j] for i, j in itertools.combinations(range(len(rows)), 2))
        return np.exp(-(distances**2) / (2 * pairs[(len(pairs) - 1) // 2] ** 2))

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        n, ones = len(k), np.ones(len(k))
        middle = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + middle - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    k, m = matrix(x), matrix(y)
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_equals_the_slow_version():
    for kernel in KERNELS:
        x = normal(12, 4, 6)
        y = x[:, :, :2].sin() + 0.5 * normal(12, 4, 2, seed=1)
        assert cka(x, y, kernel) == pytest.approx(slow_cka(x, y, kernel), rel=1e-9)


def test_cka_ignores_rotation_scale_and_shift():
    for kernel in KERNELS:
        x, y = normal(40, 10), normal(40, 10) + normal(40, 10, seed=1)
        rotation = torch.linalg.qr(normal(10, 10, seed=2)).Q
        value = cka(x, y, kernel)
        assert 0.1 < value < 0.9
        assert cka(x @ rotation, y, kernel) == pytest.approx(value, abs=1e-5)
        assert cka(1000 * x, 0.01 * y, kernel) == pytest.approx(value, abs=1e-5)
        assert cka(x + 100, y, kernel) == pytest.approx(value, abs=1e-4)
        stretched = x * torch.tensor([30.0] + [1.0] * 9)  # no isotropic scaling: the geometry is another
        assert abs(cka(stretched, y, kernel) - value) > 0.05


def test_cka_of_equal_and_of_independent_activations():
    for kernel in KERNELS:
        x = normal(200, 30)
        assert cka(x, x, kernel) == pytest.approx(1, abs=1e-12)
        independent = [cka(x, normal(200, 500, seed=seed), kernel) for seed in range(1, 6)]
        # The biased estimator would give sqrt(30 * 500 / 200^2) or more: it mistakes many features for similarity.
        assert abs(np.mean(independent)) < 0.03


def test_cka_of_what_does_not_vary_is_not_a_number():
    for kernel in KERNELS:
        assert np.isnan(cka(torch.full((5, 3), 0.1), normal(5, 3), kernel))


def test_wrong_arguments_of_cka():
    with pytest.raises(OptionError, match="at least 4 examples, got 3"):
        u_centred(linear_gram(normal(3, 2)))
    with pytest.raises(OptionError, match="kernel must be one of linear, rbf"):
        check_kernel("cosine", 1)
    with pytest.raises(OptionError, match="bandwidth must be a positive"):
        check_kernel("rbf", 0)


# ---- layers


def seen_by(model, detail: str) -> dict[str, torch.Tensor]:
    """Activations by layer, in the order in which they come."""
    seen: dict[str, torch.Tensor] = {}
    with watching(named_layers(model, detail), seen.__setitem__):
        model.scene_embeddings(torch.from_numpy(clips(1)))
    return seen


@pytest.mark.parametrize("name", ENCODERS)
def test_layers_have_readable_names_and_each_its_own_activation(name):
    model = load_model(name)
    blocks, everything = seen_by(model, "blocks"), seen_by(model, "all")
    assert set(blocks) == set(named_layers(model))
    assert set(blocks) <= set(everything)
    assert list(blocks)[-1] == list(everything)[-1] == "embedding"
    for seen in (blocks, everything):
        assert len({activation.data_ptr() for activation in seen.values()}) == len(seen)
    for layer in named_layers(model, "all"):
        assert "_" not in layer
        assert "." not in layer
    assert not any(module._forward_hooks for module in model.modules())


def test_the_layers_of_each_encoder():
    layers = {name: list(seen_by(load_model(name), "blocks")) for name in ENCODERS}
    assert layers["random_cnn"] == ["block 1", "block 2", "block 3", "linear 1", "linear 2", "embedding"]
    assert layers["random_clstm"] == ["block 1", "block 2", "LSTM", "linear", "embedding"]
    parts = ["tokens", "attention", "feed-forward", "output"]
    assert layers["random_cvt"] == [f"stage {i} / {part}" for i in (1, 2, 3) for part in parts] + ["embedding"]
    assert len(layers["random_resnetish34"]) == 3 + 4 + 6 + 3 + 1
    assert layers["random_resnetish34"][3] == "stage 2 / block 1"


def test_names():
    for path, name in (
        ("conv1", "stem / convolution"),
        ("layer2.0.downsample.0", "stage 2 / block 1 / shortcut / convolution"),
        ("layer4.2.bn1", "stage 4 / block 3 / batch norm 1"),
        ("stages.2.attention.key_value", "stage 3 / attention / keys and values"),
        ("blocks.0.norm", "block 1 / batch norm"),
    ):
        assert readable_name(path) == name


def test_what_has_no_layers_is_refused():
    joined = load_model("random_cnn+random_clstm")
    with pytest.raises(OptionError, match="ConcatenatedModel has no encoder"):
        named_layers(joined)
    with pytest.raises(OptionError, match="detail must be one of blocks, all"):
        named_layers(load_model("random_cnn"), "some")


# ---- models


def activations(model, windows: np.ndarray) -> dict[str, torch.Tensor]:
    """All activations at once, kept: what the package never does."""
    kept: dict[str, torch.Tensor] = {}
    model.batch_size = len(windows)
    with watching(named_layers(model), kept.__setitem__):
        model.scene_embeddings(torch.from_numpy(windows))
    return kept


@pytest.mark.parametrize("kernel", KERNELS)
def test_models_compare_as_their_stored_activations_do(kernel):
    model_a, model_b = load_model("random_cnn"), load_model("random_cvt")
    windows = clips(9)
    similarity = compare_layers(model_a, model_b, windows, kernel=kernel)
    kept_a, kept_b = activations(model_a, windows), activations(model_b, windows)
    assert similarity.layers_a == tuple(kept_a)
    assert similarity.layers_b == tuple(kept_b)
    for i, x in enumerate(kept_a.values()):
        for j in (0, 5, -1):
            slow = slow_cka(x, list(kept_b.values())[j], kernel)
            assert similarity.values[i, j] == pytest.approx(slow, abs=1e-6)


class Toy(torch.nn.Module):
    """A model as small as one can be: two linear layers over the samples."""

    sample_rate, batch_size, device = 16000, None, torch.device("cpu")

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential()
        for i, shape in enumerate([(6, 20), (4, 6)]):
            layer = torch.nn.Linear(*reversed(shape), bias=False)
            layer.weight.data = normal(*shape, seed=seed + i)
            self.encoder.add_module(f"fc{i + 1}", layer)

    def scene_embeddings(self, audio: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.encoder(audio)


@pytest.mark.parametrize("kernel", KERNELS)
def test_minibatches_approach_all_windows_at_once(kernel):
    windows = (normal(96, 20) * torch.linspace(0.2, 3, 20)).numpy()
    options = {"model_a": Toy(1), "model_b": Toy(5), "windows": windows, "kernel": kernel}
    whole = compare_layers(**options, batch_size=96).values
    assert 0.05 < whole.min() < whole.max() < 0.9

    def error(passes: int) -> float:
        parts = [compare_layers(**options, batch_size=16, passes=passes, seed=seed) for seed in range(3)]
        return float(np.mean([np.abs(part.values - whole) for part in parts]))

    few, many = error(1), error(50)
    assert few < 0.1
    assert (
        many < {"linear": few / 3, "rbf": 0.03}[kernel]
    )  # the RBF kernel's bandwidth is that of 16 windows, not of 96


def test_minibatches_have_no_bias(monkeypatch):
    """The mean over all ways to leave one window out is the estimate from all windows, to the last digits."""
    model_a, model_b = load_model("random_cnn"), load_model("random_cvt")
    windows = clips(9)
    whole = compare_layers(model_a, model_b, windows, batch_size=9)
    each = [np.delete(np.arange(9), i) for i in range(9)]
    monkeypatch.setattr("hear_byols.analysis.similarity._minibatches", lambda *args: each)
    assert compare_layers(model_a, model_b, windows).values == pytest.approx(whole.values, abs=1e-6)


def test_every_window_comes_once_a_pass():
    batches = list(_minibatches(21, 8, passes=2, seed=0))
    assert [len(batch) for batch in batches] == [7] * 6
    for once in (batches[:3], batches[3:]):
        assert sorted(np.concatenate(once)) == list(range(21))
    assert not np.array_equal(np.concatenate(batches[:3]), np.concatenate(batches[3:]))


def test_a_model_is_itself_and_unlike_another():
    cnn = load_model("random_cnn")
    own = compare_layers(cnn, cnn, clips(12))
    assert np.diag(own.values) == pytest.approx(1, abs=1e-12)
    assert own.values == pytest.approx(own.values.T, abs=1e-12)
    again = compare_layers(cnn, load_model("random_cnn"), clips(12))
    assert again.values == pytest.approx(own.values, abs=1e-9)


def test_comparing_leaves_the_model_as_it_was():
    model = load_model("random_cnn", batch_size=3).train()
    compare_layers(model, model, clips(8))
    assert model.batch_size == 3
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_that_does_not_vary_is_told(caplog):
    model = load_model("random_cnn")
    model.encoder.fc2.weight.data.zero_()
    similarity = compare_layers(model, load_model("random_cnn"), clips(8))
    assert "do not vary over the windows, so nothing is similar to them: linear 2, embedding" in caplog.text
    assert np.isnan(similarity.values).all(1).tolist() == [False] * 4 + [True] * 2


def test_rbf_keeps_the_bandwidth_of_the_first_minibatch():
    first, second = torch.from_numpy(clips(4)), torch.from_numpy(clips(8)[4:])
    grams = LayerGrams(load_model("random_cnn"), kernel="rbf")
    grams(first)
    kept = grams(second)
    alone = LayerGrams(load_model("random_cnn"), kernel="rbf")(second)
    assert all(not torch.allclose(one, other, rtol=1e-3) for one, other in zip(kept, alone, strict=True))


def test_wrong_options_of_a_comparison():
    for options in (
        {"batch_size": 7},
        {"passes": 0},
    ):
        model = load_model("random_cnn")
        with pytest.raises(OptionError, match=f"{next(iter(options))} must be at least"):
            compare_layers(model, model, clips(8), **options)


# ---- windows of audio


def test_windows_adjoin_and_short_files_are_followed_by_zeros(tmp_path):
    ramp = (np.arange(35) / 100).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", ramp, 1000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", ramp[:4], 1000, subtype="FLOAT")
    windows = read_windows(collect([tmp_path]), 1000, window_ms=10)
    expected = [*ramp[:30].reshape(3, 10), np.pad(ramp[:4], (0, 6))]
    assert np.array_equal(windows.samples, expected)
    assert windows.n_files == 2


def test_windows_are_drawn_from_all_files_and_the_rest_is_not_read(tmp_path, monkeypatch):
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


def test_too_little_audio_is_refused(tmp_path):
    write_corpus(tmp_path, 3)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"4 files gave 3 windows .* add audio .*bad\.wav: cannot be read"):
        read_windows(collect([tmp_path]), 16000)


# ---- the command


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


def test_errors_come_before_anything_is_written(tmp_path, capsys, monkeypatch):
    write_corpus(tmp_path / "audio", 4)
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["random_cnn", "random_cvt", "--output", "cka.jpeg"], "must end in .png, .pdf, .svg; got 'cka.jpeg'"),
        (["random_cnn", "nobody", "--output", "cka.png"], "nobody"),
        (["random_cnn", "random_cnn+random_cvt", "--output", "cka.png"], "has no encoder whose layers"),
    ):
        assert main(["cka", *arguments, "--audio", "audio", "--device", "cpu"]) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["audio"]
