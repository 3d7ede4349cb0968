"""The reference arrays: made by running the original once, with weights that follow from each parameter's name."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"
FOLDER = SHARED / "reference" / "golden"
ENCODER_OF = {"default": "cnn", "default512": "cnn", "resnetish34": "resnetish34", "clstm": "clstm", "cvt": "cvt"}

needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the golden arrays are not at {FOLDER.name}/ beside")


def array(name: str) -> np.ndarray:
    """Read one golden array."""
    return np.load(FOLDER / f"{name}.npy")


def golden_value(key: str, shape: list[int]) -> torch.Tensor:
    """The weight that the golden arrays were made with, from its name in the original's state dict."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        value = 0.5 + np.abs(noise)
    elif key.endswith("running_mean"):
        value = 0.1 * noise
    elif len(shape) == 1:
        value = 1 + 0.1 * noise if key.endswith("weight") else 0.05 * noise
    elif key.endswith(".g"):
        value = 1 + 0.1 * noise
    elif key.endswith(".b"):
        value = 0.05 * noise
    else:
        value = noise / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def original_state_dict(name: str) -> dict[str, torch.Tensor]:
    """A state dict under the original's keys, as its published files hold."""
    specs = json.loads((FOLDER / "state_dicts.json").read_text())[name]
    return {key: golden_value(key, shape) for key, shape, _ in specs}


def write_original_file(name: str, folder: Path) -> Path:
    """Save such a state dict the way the original's files are saved."""
    path = folder / f"{name}.pth"
    torch.save(original_state_dict(name), path)
    return path


def assert_equal_to(ours: torch.Tensor, golden: np.ndarray) -> None:
    """Within the reference's tolerance: 1e-4 of the largest value at most, 1e-5 on the mean."""
    assert tuple(ours.shape) == golden.shape
    error = np.abs(ours.numpy() - golden) / np.abs(golden).max()
    assert error.max() < 1e-4
    assert error.mean() < 1e-5
