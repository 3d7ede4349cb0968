"""Checkpoints that are damaged, swollen or absurd: refused, cheaply, and never loaded as other weights."""

import io
import json
import random
import struct
import tarfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hear_byols
from hear_byols._util.memory import peak_memory
from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, OptionError
from hear_byols.weights.checkpoint import read_checkpoint, save_checkpoint
from hear_byols.weights.digest import content_digest

CONFIG = ModelConfig(EncoderConfig("cnn", 16))
HEADER = {"schema": "hear_byols/1", "config": CONFIG.to_dict(), "provenance": {"name": "tiny"}}
SUFFIXES = (".pth", ".safetensors")


@pytest.fixture(scope="module")
def weights():
    return build_encoder(CONFIG.encoder).state_dict()


@pytest.fixture(params=SUFFIXES)
def saved(request, tmp_path, weights):
    path = tmp_path / f"w{request.param}"
    save_checkpoint(path, CONFIG, weights, {"name": "tiny"})
    return path


def old_file(path: Path, weights, **changes) -> Path:
    """As releases before the digest wrote it."""
    if path.suffix == ".pth":
        torch.save({**HEADER, "state_dict": weights, **changes}, path)
    else:
        save_file(weights, path, metadata={"hear_byols": json.dumps({**HEADER, **changes})})
    return path


def same(read, weights) -> bool:
    return all(torch.equal(read.state_dict[key], value) for key, value in weights.items())


def test_one_bit_anywhere_is_noticed(saved, weights):
    """Or it is in the padding: what is loaded is what was saved."""
    whole, chance, refused = saved.read_bytes(), random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        saved.write_bytes(damaged)
        try:
            assert same(read_checkpoint(saved), weights)
        except CheckpointError:
            refused += 1
    assert refused > 100


def header_of(path: Path) -> dict[str, Any]:
    """Whatever a file holds beside the weights."""
    if path.suffix == ".pth":
        return {**torch.load(path, weights_only=True), "state_dict": None}
    with safe_open(path, "pt") as file:
        return {**json.loads(file.metadata()["hear_byols"]), "state_dict": None}


def test_a_digest_that_does_not_fit(saved, weights):
    """Well-formed but other weights, another normalization or provenance: the digest covers all."""
    digest = header_of(saved)["digest"]
    assert same(read_checkpoint(old_file(saved, weights, digest=digest)), weights)
    other = replace(CONFIG, frontend=replace(CONFIG.frontend, f_min=61.0)).to_dict()
    for changes in ({"provenance": {"name": "other"}}, {"config": other}, {"digest": "0" * 64}, {"digest": None}, {}):
        state = weights if changes else {**weights, "fc2.bias": weights["fc2.bias"] + 1}
        with pytest.raises(CheckpointError, match="digest"):
            read_checkpoint(old_file(saved, state, **{"digest": digest, **changes}))


def test_files_are_read_across_releases(saved, weights, tmp_path):
    """Old ones, without a digest or a CRC, load; new ones have the keys that earlier releases read."""
    torch.serialization.set_crc32_options(False)
    try:
        without_crc = old_file(tmp_path / f"crc{saved.suffix}", weights)
    finally:
        torch.serialization.set_crc32_options(True)
    for path in (saved, old_file(tmp_path / f"old{saved.suffix}", weights), without_crc):
        assert same(read_checkpoint(path), weights)
    assert {**HEADER, "state_dict": None}.items() <= header_of(saved).items()
    read = torch.load(saved, weights_only=True)["state_dict"] if saved.suffix == ".pth" else load_file(saved)
    assert read.keys() == weights.keys()


def test_old_archives_are_held_against_their_crc(tmp_path, weights):
    path = old_file(tmp_path / "old.pth", weights)
    content = bytearray(path.read_bytes())
    content[content.index(weights["fc2.weight"].numpy().tobytes()) + 2] ^= 0x10
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)  # torch itself does not notice
    with pytest.raises(CheckpointError, match="CRC"):
        read_checkpoint(path)


def refusal(path: str) -> tuple[int, str]:
    """The memory that it takes to refuse a file, in bytes, and what is said."""
    before = peak_memory()
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    return peak_memory() - before, str(caught.value)


class _Zeros:
    def __reduce__(self):
        return bytearray, (4 << 30,)


def test_files_that_ask_for_gigabytes_are_refused_before_they_are_taken(tmp_path, weights):
    """Or are ambiguous."""
    old = old_file(tmp_path / "old.pth", weights)
    with (
        zipfile.ZipFile(old) as archive,
        zipfile.ZipFile(tmp_path / "swollen.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as swollen,
        zipfile.ZipFile(tmp_path / "twins.pth", "w") as twins,
    ):
        for name in archive.namelist():
            content = archive.read(name)
            swollen.writestr(name, content + (bytes(1 << 28) if name.endswith("data.pkl") else b""))
            twins.writestr(name, content)
            if name.endswith("data/0"):
                twins.writestr(name.upper(), bytes(len(content)))
        largest = max(member.file_size for member in archive.infolist())
    claim = struct.pack("<II", 0x7FFFFFFF, 0x7FFFFFFF)
    content = old.read_bytes().replace(struct.pack("<II", largest, largest), claim)
    (tmp_path / "claiming.pth").write_bytes(content)
    for name, zipped in (("asking.pth", True), ("unzipped.pth", False)):
        torch.save({**HEADER, "config": _Zeros()}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    header = tarfile.TarInfo("storages")
    header.size = 1 << 40
    (tmp_path / "tar.pth").write_bytes(header.tobuf() + bytes(4096))
    laughs, deep = ["ha"], []
    for _ in range(40):  # each list twice in the next: a terabyte of JSON
        laughs = [laughs, laughs]
    for _ in range(150):
        deep = [deep]
    for name, provenance in (("laughs.pth", laughs), ("deep.pth", deep)):
        old_file(tmp_path / name, weights, provenance={"name": provenance})
    said = {"swollen": "compressed", "twins": "two members", "claiming": "claim more bytes", "tar": "tar archive"}
    said |= dict.fromkeys(("asking", "unzipped"), "other than tensors and plain data")
    said |= dict.fromkeys(("laughs", "deep"), "not plain JSON data")
    said = {str(tmp_path / f"{name}.pth"): words for name, words in said.items()}
    for name in ("twins.pth", "deep.pth"):  # which are small
        with pytest.raises(CheckpointError, match=said.pop(str(tmp_path / name))):
            read_checkpoint(tmp_path / name)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for (path, words), (n_bytes, message) in zip(said.items(), pool.map(refusal, said), strict=True):
            assert words in message
            assert n_bytes < 2e8, path


def test_front_ends_and_windows_of_absurd_cost(tmp_path, weights):
    for change in (
        {"hop_length": 1, "sample_rate": 384_000, "n_fft": 32_768, "win_length": 32_768},
        {"hop_length": 1, "n_fft": 1024},
        {"hop_length": 7},
        {"hop_length": 16, "n_fft": 32_768},
        {"sample_rate": 999, "f_max": 400.0},
    ):
        with pytest.raises(OptionError, match=r"frames a second|at least 1000 Hz"):
            replace(FrontendConfig(), **change)
        config = {**HEADER["config"], "frontend": {**HEADER["config"]["frontend"], **change}}
        with pytest.raises(CheckpointError, match=r"frames a second|at least 1000 Hz"):
            read_checkpoint(old_file(tmp_path / "w.pth", weights, config=config))
    for change in ({"hop_length": 16}, {"sample_rate": 48_000, "hop_length": 120, "n_fft": 4096}, {"hop_length": 8}):
        assert replace(FrontendConfig(), **change)  # costly, but sensible
    with pytest.raises(OptionError, match="mel bands do not fit"):
        hear_byols.EmbeddingModel(ModelConfig(CONFIG.encoder, FrontendConfig(f_min=60.0, f_max=60.0000001)))
    for value in (600_001, 1e9, 1e300, 10**400):
        with pytest.raises(OptionError, match="frame_ms must be"):
            hear_byols.load_model("random_cnn", frame_ms=value)


def test_negative_variances_are_refused(tmp_path, weights):
    bad = {**weights, "blocks.0.norm.running_var": torch.full((64,), -1.0)}
    with pytest.raises(CheckpointError, match="negative variances"):
        save_checkpoint(tmp_path / "w.pth", CONFIG, bad, {})
    with pytest.raises(CheckpointError, match="negative variances"):
        read_checkpoint(old_file(tmp_path / "old.pth", bad))


def test_the_digest_of_nested_content():
    """Order of keys, tuples and lists make no difference; names, types, shapes and values do."""
    content = {"a": torch.arange(6.0), "b": [1, 2.0, None, True, "x", b"y"], "c": {}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    reordered = {"c": {}, "b": (1, 2.0, None, True, "x", b"y"), "a": torch.arange(6.0)}
    for equal in (reordered, torch.load(buffer, weights_only=True)):
        assert content_digest(equal) == content_digest(content)
    for change in (
        {"a": torch.arange(6.0).view(2, 3)},
        {"a": torch.arange(6.0).double()},
        {"a": torch.arange(6.0) + 1e-6},
        {"b": [1, 2, None, True, "x", b"y"]},
        {"b": [1, 2.0, None, 1, "x", b"y"]},
        {"b": [1, 2.0, None, True, b"x", "y"]},
        {"d": {}},
    ):
        assert content_digest({**content, **change}) != content_digest(content)
    with pytest.raises(TypeError, match="object"):
        content_digest([object()])
