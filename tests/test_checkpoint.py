"""Checkpoint files: what is written is read back, and nothing bad is read, executed or left behind."""

import io
import os
import pickle
import resource
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import hear_byols
from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig, NormalizationConfig
from hear_byols.encoders import EMBEDDING_SIZES, build_encoder
from hear_byols.errors import CheckpointError, OptionError, WeightsNotFoundError
from hear_byols.weights.checkpoint import SCHEMA, read_checkpoint, save_checkpoint

CONFIG = ModelConfig(
    EncoderConfig("cnn", 8), FrontendConfig(win_length=1024), NormalizationConfig("dataset", mean=-7.5, std=4.25)
)
PROVENANCE = {"name": "tiny", "licence": "MIT", "steps": 3, "nested": {"µ": [1, None, 0.5]}}
SUFFIXES = (".pth", ".safetensors")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_encoder(CONFIG.encoder).state_dict()


def content(weights, **changes) -> dict:
    """What a .pth file holds, with changes to its top level."""
    plain = {"schema": SCHEMA, "config": CONFIG.to_dict(), "provenance": PROVENANCE, "state_dict": dict(weights)}
    return {**plain, **changes}


def assert_refused(path: Path, *words: str, error: type[Exception] = CheckpointError) -> None:
    """Both readers raise our error, on one line that names the file and holds the words."""
    with pytest.raises(error) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert type(caught.value) is error
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 800
    assert [word for word in words if word not in message] == [], message
    if path.is_file():
        with pytest.raises(error):
            hear_byols.load_model(path)


@pytest.fixture
def refused(tmp_path):
    """A value, saved as torch saves it, is refused with these words."""

    def check(value: object, *words: str) -> None:
        torch.save(value, tmp_path / "w.pth")
        assert_refused(tmp_path / "w.pth", *words)

    return check


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_saved_is_read_back(tmp_path, weights, suffix):
    for name, size in {**EMBEDDING_SIZES, "cnn": 8}.items():
        config, path = replace(CONFIG, encoder=EncoderConfig(name, size)), tmp_path / f"new {name}/tiny{suffix}"
        saved = build_encoder(config.encoder).state_dict()
        save_checkpoint(path, config, saved, PROVENANCE)
        read = read_checkpoint(path)
        assert (read.config, read.provenance, read.schema) == (config, PROVENANCE, SCHEMA)
        assert list(path.parent.iterdir()) == [path]
        torch.testing.assert_close(read.state_dict, saved, rtol=0, atol=0)
    with pytest.raises(OptionError, match="states its own front end"):
        hear_byols.load_model(path, win_length=1024)
    path, storage = tmp_path / f"w{suffix}", torch.randn(64 * 4)
    views = {**weights, "blocks.0.norm.weight": storage[::4], "blocks.1.norm.weight": storage[:64]}
    save_checkpoint(path, CONFIG, views, PROVENANCE)
    assert torch.equal(read_checkpoint(path).state_dict["blocks.0.norm.weight"], storage[::4])
    full = path.stat().st_size
    save_checkpoint(path, CONFIG, weights, PROVENANCE, half=True)
    assert path.stat().st_size < 0.55 * full
    torch.testing.assert_close(read_checkpoint(path).state_dict, weights, rtol=2**-11, atol=2**-24)


def test_saving_touches_neither_the_umask_nor_the_weights(tmp_path, weights):
    leaf = {key: value.clone().requires_grad_(value.is_floating_point()) for key, value in weights.items()}
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "w.pth", CONFIG, leaf, PROVENANCE, half=True)
    finally:
        after = os.umask(before)
    assert after == 0o027
    assert (tmp_path / "w.pth").stat().st_mode & 0o777 == 0o640
    assert all(torch.equal(leaf[key], weights[key]) and leaf[key].dtype == weights[key].dtype for key in weights)


def test_what_could_not_be_read_again_is_not_written(tmp_path, weights, monkeypatch):
    """Nor half of a file."""
    for provenance in ({"x": float("nan")}, {"x": object()}, {"x": torch.ones(1)}, {(1, 2): 3}):
        with pytest.raises(OptionError, match="JSON"):
            save_checkpoint(tmp_path / "w.pth", CONFIG, weights, provenance)
    for name in ("w.bin", "w", "w.pt"):
        with pytest.raises(OptionError, match=r"\.pth or \.safetensors"):
            save_checkpoint(tmp_path / name, CONFIG, weights, PROVENANCE)
    with pytest.raises(CheckpointError, match="'cvt'"):
        save_checkpoint(tmp_path / "w.pth", ModelConfig(EncoderConfig("cvt", 2048)), weights, PROVENANCE)
    assert not any(tmp_path.iterdir())
    path = tmp_path / "w.pth"
    save_checkpoint(path, CONFIG, weights, PROVENANCE)
    old = path.read_bytes()
    for value, half in ((float("nan"), False), (float("inf"), False), (1e6, True)):
        bad = {**weights, "fc1.bias": torch.full_like(weights["fc1.bias"], value)}
        with pytest.raises(CheckpointError, match=r"fc1\.bias holds NaN or infinite"):
            save_checkpoint(path, CONFIG, bad, PROVENANCE, half=half)

    def full(content, target):
        target.write(b"half")
        target.flush()
        assert path.read_bytes() == old  # what a kill would leave here
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, CONFIG, weights, PROVENANCE)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


# Files that are no checkpoints


JUNK = {
    "empty": b"",
    "one byte": b"\0",
    "text": b"not a checkpoint at all\n" * 50,
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 20\n",
    "pickle": b"\x80\x02.",
    "zip head": b"PK\x03\x04",
    "ones": b"\xff" * 4096,
    "huge": (2**60).to_bytes(8, "little") + b"{}",
    "bad header": (20).to_bytes(8, "little") + b'{"a":{"dtype":"F32",',
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_junk(tmp_path, suffix):
    for name, junk in JUNK.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(junk)
        assert_refused(path, "empty" if not junk else "hear_byols.save_checkpoint")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_archives_of_other_kinds(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "archive.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_refused(tmp_path / "archive.pth", "not a checkpoint")
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), tmp_path / "script.pth")
    assert_refused(tmp_path / "script.pth")
    refused(build_encoder(CONFIG.encoder), "refused without running anything")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation(tmp_path, weights, suffix):
    """Dense at both ends, where the headers and the zip's directory are; sparse between."""
    path = tmp_path / f"cut{suffix}"
    save_checkpoint(path, CONFIG, weights, PROVENANCE)
    whole, n = path.read_bytes(), path.stat().st_size
    for length in (*range(1, 40), *range(40, n - 40, n // 60), *range(n - 40, n)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"cut{suffix}"):
            read_checkpoint(path)
    path.write_bytes(whole)
    read_checkpoint(path)  # the loop would also pass if nothing could be read


def test_folder_missing_file_and_file_without_read_permission(tmp_path, weights):
    assert_refused(tmp_path, "folder")
    assert_refused(tmp_path / "none.pth", "no such file", error=WeightsNotFoundError)
    path = tmp_path / "secret.pth"
    save_checkpoint(path, CONFIG, weights, PROVENANCE)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root reads everything; be nobody for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match=r"secret\.pth: cannot be read .*permission"):
            read_checkpoint(path)
    finally:
        os.seteuid(user)


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def _torch(value: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("dump", [_torch, partial(_torch, zipped=False), pickle.dumps], ids=["zip", "legacy", "plain"])
def test_pickled_code_is_never_executed(tmp_path, weights, dump):
    target, path = tmp_path / "executed", tmp_path / "bomb.pth"
    bomb = Bomb(target)
    within_a_checkpoint = {"provenance": {"name": bomb}}, {"state_dict": {**weights, "fc1.bias": bomb}}
    for value in (bomb, [bomb, bomb], *(content(weights, **part) for part in within_a_checkpoint)):
        path.write_bytes(dump(value))
        assert_refused(path, "refused without running anything")
        assert not target.exists()
        if dump is not pickle.dumps:
            torch.load(path, weights_only=False)  # the bomb is live: an unsafe load does execute it
            target.unlink()
    path.with_suffix(".safetensors").write_bytes(dump(bomb))
    assert_refused(path.with_suffix(".safetensors"))
    assert not target.exists()


# Dictionaries that are no checkpoints


def test_other_content(refused):
    for value in (torch.ones(3), [1, 2], "text", 7, None, (torch.ones(1),)):
        refused(value, "expected a dictionary")
    for value in ({}, {"epoch": 3}, {1: torch.ones(1)}, {"a": {"b": 1}}):
        refused(value, "neither")
    for state in [
        {"fc.3.weight": 5},
        {"fc.3.weight": torch.tensor(1.0)},
        {"fc.3.weight": torch.ones(0, 3)},
        {"fc.3.weight": torch.ones(8, 8)},
        {"fc.3.weight": torch.ones(8, 8), "fc.0.bias": "text"},
        {"fc.3.weight": torch.ones(8, 8), 3: torch.ones(1)},
        {"state_dict": {"x.fc.3.weight": torch.ones(8, 8), 3: torch.ones(1)}},
        {"fc.3.weight": torch.ones(1).expand(10**9, 3)},
        {"layers.2.2.layers.0.1.fn.net.3.weight": torch.ones(1), "layers.0.1.g": torch.ones(1).expand(2, 10**12, 1, 1)},
        {"online.fc.3.weight": torch.ones(8, 8), "target.fc.3.weight": torch.ones(8, 8)},
    ]:
        refused(state)


def test_parts_of_a_wrong_kind(weights, refused):
    for part in ("config", "provenance", "state_dict"):
        refused({name: value for name, value in content(weights).items() if name != part}, "lacks", part)
        for value in (None, 3, "text", [1]):
            refused(content(weights, **{part: value}), "lacks", part)
    for schema in ("hear_byols/2", "", 1, None, ["hear_byols/1"], torch.ones(2), "x" * 5000):
        refused(content(weights, schema=schema), "schema", "'hear_byols/1'", "upgrade hear_byols")
    for value in ({"a": torch.ones(1)}, {"a": float("nan")}, {torch.ones(1): 1}):
        refused(content(weights, provenance=value), "beside the weights is not plain JSON")


NONSENSE = {  # what is said names the last part of the place, or the word behind a value
    "encoder": [({"name": "cvt", "embedding_size": 2048}, "'cvt'"), ({"name": "cnn"}, "embedding_size"), "cnn"],
    "encoder.name": [("transformer", "transformer"), (3, "encoder.name"), ("cvt", "cvt")],
    "encoder.embedding_size": ["8", True, 0, (16, "fc1"), 10**40],
    "encoder.depth": [3],
    "frontend.n_mels": [(80, "fc1"), (60, "multiple of 8"), 10**9],
    "frontend.n_fft": [2**40],
    "frontend.win_length": [4096],
    "frontend.hop_length": [10**9, 0],
    "frontend.sample_rate": [0, 10**12, 16000.0],
    "frontend.f_min": ["60", -1.0, float("nan")],
    "frontend.f_max": [9000.0, 60.0],
    "frontend.colour": ["blue"],
    "normalization": [None],
    "normalization.mode": [("none", "none"), (["clip"], "clip")],
    "normalization.mean": ["0", None],
    "normalization.std": [0.0, float("inf"), 1e-300],
    "extra": [{}],
}


def test_nonsense_in_the_configuration(weights, refused):
    for place, values in NONSENSE.items():
        part, _, name = place.rpartition(".")
        for value in values:
            value, word = value if isinstance(value, tuple) else (value, name)
            config = CONFIG.to_dict()
            (config[part] if part else config)[name] = value
            refused(content(weights, config=config), word)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_huge_claims_cost_no_memory(tmp_path, weights):
    """A small file that announces a model of 600 MB is refused with 200 MB to spare."""
    config = replace(CONFIG, encoder=EncoderConfig("cnn", 12_000)).to_dict()
    torch.save(content(weights, config=config), tmp_path / "w.pth")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, hard))
    try:
        assert_refused(tmp_path / "w.pth", "fc1")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


WRONG_WEIGHTS = [  # changes, of which None takes a weight away
    ({"fc2.bias": None}, ("1 missing", "fc2.bias")),
    ({"fc3.bias": torch.ones(8)}, ("1 unknown", "fc3.bias")),
    ({"fc2.bias": None, "fc2.bais": torch.ones(8)}, ("1 missing", "1 unknown", "fc2.bais")),
    ({"fc2.bias": torch.ones(9)}, ("fc2.bias", "(9,)", "(8,)")),
    ({"fc2.bias": torch.ones(8, 1)}, ("fc2.bias", "(8, 1)")),
    ({"fc2.bias": torch.ones(1).expand(10**10)}, ("fc2.bias", "10000000000")),
    ({"fc2.bias": torch.tensor([1.0] * 7 + [float("nan")])}, ("fc2.bias", "NaN")),
    ({"fc2.bias": torch.full((8,), 1e300, dtype=torch.float64)}, ("fc2.bias", "infinite")),
    ({"fc2.bias": torch.ones(8, dtype=torch.int32)}, ("fc2.bias", "int32", "float32")),
    ({"fc2.bias": torch.ones(8, dtype=torch.complex64)}, ("fc2.bias", "complex64")),
    ({"fc2.bias": torch.ones(8).to_sparse()}, ("fc2.bias", "sparse")),
    ({"fc2.bias": [1.0] * 8}, ("fc2.bias", "named tensors")),
    ({7: torch.ones(8)}, ("7", "named tensors")),
    ({"x" * 10**5: torch.ones(1)}, ("unknown",)),
]


def test_wrong_weights_are_refused_and_every_float_type_taken(tmp_path, weights, refused):
    refused(content({}), "missing")
    for changes, words in WRONG_WEIGHTS:
        state = {key: value for key, value in {**weights, **changes}.items() if value is not None}
        refused(content(state), *words)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
        torch.save(content(OrderedDict(state)), tmp_path / "w.pth")
        assert read_checkpoint(tmp_path / "w.pth").state_dict["fc1.weight"].dtype == torch.float32


def test_safetensors_without_our_metadata(tmp_path, weights):
    bare, broken = ("neither a checkpoint of this package", "blocks.0.conv"), ("not a checkpoint",)
    for metadata, words in [
        (None, bare),
        ({"format": "pt"}, bare),
        ({"hear_byols": "{}"}, bare),
        ({"hear_byols": "{"}, broken),
        ({"hear_byols": "[" * 10**5}, broken),
        ({"hear_byols": "[1]"}, broken),
        ({"hear_byols": '{"schema": "hear_byols/1"}'}, ("lacks config",)),
        ({"hear_byols": '{"schema": "hear_byols/9"}'}, ("schema",)),
    ]:
        save_file(dict(weights), tmp_path / "w.safetensors", metadata=metadata)
        assert_refused(tmp_path / "w.safetensors", *words)
