"""Checking audio at the door: every fault gets one clear error that names the clip."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_byols.errors import InputError

MAX_PEAK = 10.0  # float audio beyond this was not scaled to [-1, 1]; clipping and resampling stay well below

ClipLike = Tensor | np.ndarray
BatchLike = Tensor | np.ndarray | Sequence[ClipLike]


def to_tensor(audio: object, label: str = "audio", device: torch.device | None = None) -> Tensor:
    """Take a tensor or array of floating-point samples as float32, without copying where possible.

    An array, which is on no device of its own, goes to ``device``; a tensor stays where it is.
    Arrays may be of any byte order, precision and stride, and read-only. A tensor keeps its gradient.

    Raises:
        InputError: neither tensor nor array, not of a floating-point type, sparse, nested, masked, or without samples.
    """
    if isinstance(audio, np.ndarray):
        return _from_array(audio, label).to(device).float()
    if not isinstance(audio, Tensor):
        raise InputError(
            f"{label} must be a torch.Tensor or numpy.ndarray of float32 samples, got {type(audio).__name__}; "
            "read files with hear_byols.load_audio(path)"
        )
    if audio.layout != torch.strided or audio.is_nested:
        kind = "nested" if audio.is_nested else audio.layout
        advice = "call its to_dense() or pass a list of clips"
        raise InputError(f"{label} must be a dense tensor, got a {kind} one; {advice}")
    if audio.is_meta:
        raise InputError(f"{label} is on the device meta, without samples for .to(device) to move; make it on the cpu")
    if not audio.is_floating_point():
        raise InputError(f"{label} must be float32 in [-1, 1], got {audio.dtype}. {_scaling(str(audio.dtype))}")
    return audio.resolve_neg().float()


def _from_array(array: np.ndarray, label: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise InputError(f"{label} must hold float32 samples in [-1, 1], got an array of dtype {array.dtype}")
    if np.ma.is_masked(array):
        raise InputError(f"{label} has masked samples; fill them first, e.g. audio.filled(0)")
    array = np.asarray(array)
    if array.dtype.kind != "f":
        raise InputError(f"{label} must be float32 in [-1, 1], got {array.dtype.name}. {_scaling(array.dtype.name)}")
    with np.errstate(over="ignore"):  # what is infinite in float32 is refused with the other such samples
        array = np.asarray(array, dtype=np.float32, order="C")
    as_it_is = array.flags.writeable and min(array.strides, default=0) >= 0  # an axis of one sample may run backwards
    return torch.from_numpy(array if as_it_is else array.copy())


def _scaling(dtype: str) -> str:
    name = dtype.removeprefix("torch.")
    if name in ("int16", "int32"):
        return f"Scale integer samples first: audio.float() / {2 ** (int(name[3:]) - 1)}"
    if name == "uint8":
        return "Scale unsigned bytes first: (audio.float() - 128) / 128"
    return "Convert it to float32 samples first"


def is_list(audio: BatchLike) -> TypeGuard[list[ClipLike] | tuple[ClipLike, ...]]:
    """Whether clips come as a list, of any lengths, rather than as one tensor or array."""
    return isinstance(audio, (list, tuple))


def check_batch(audio: BatchLike, device: torch.device) -> Tensor:
    """Check mono clips of equal length: float32 [shape=(n_clips, n_samples)], on the model's ``device``.

    Raises:
        InputError: wrong rank, dtype or device, no clips, no samples, NaN, infinity or a peak above 10.
    """
    audio = to_tensor(audio, device=device)
    if audio.ndim != 2:
        hints = {1: "; for one clip pass audio[None]", 3: "; mix channels down first: audio.mean(dim=1)"}
        hint = hints.get(audio.ndim, "")
        raise InputError(f"audio must have the shape (n_clips, n_samples), got {tuple(audio.shape)}{hint}")
    if audio.numel() == 0:
        lacks = "the clips hold no samples" if audio.shape[0] else "audio holds no clips"
        raise InputError(f"{lacks}, got shape {tuple(audio.shape)}; at least one is needed")
    if audio.device != device:
        raise InputError(
            f"audio is on {audio.device} but the model is on {device}; move one of them, e.g. audio.to(model.device)"
        )
    check_values(audio, [f"clip {i}" for i in range(audio.shape[0])])
    return audio


def check_clips(clips: Sequence[ClipLike], device: torch.device) -> list[Tensor]:
    """Check a list of clips of any lengths, each [shape=(n_samples,)]; errors name the clip by its place.

    Raises:
        InputError: as :func:`check_batch`.
    """
    if len(clips) == 0:
        raise InputError("the list holds no clips; at least one is needed")
    checked = []
    for i, clip in enumerate(clips):
        tensor = to_tensor(clip, f"clip {i}", device)
        if tensor.ndim != 1:
            raise InputError(f"clip {i} of a list must have the shape (n_samples,), got {tuple(tensor.shape)}")
        if tensor.numel() == 0:
            raise InputError(f"clip {i} holds no samples; at least one is needed")
        if tensor.device != device:
            raise InputError(f"clip {i} is on {tensor.device} but the model is on {device}; move one of them")
        check_values(tensor[None], [f"clip {i}"])
        checked.append(tensor)
    return checked


def by_clip(
    audio: BatchLike, device: torch.device, embed: Callable[[Tensor, int], tuple[Tensor, Tensor]]
) -> tuple[Any, Any]:
    """Checked clips to vectors and times: those of one tensor together, those of a list each, into two lists.

    ``embed`` takes clips of equal length [shape=(n_clips, n_samples)], and the place of the first.
    """
    if not is_list(audio):
        return embed(check_batch(audio, device), 0)
    pairs = [embed(clip[None], place) for place, clip in enumerate(check_clips(audio, device))]
    return [vectors[0] for vectors, _ in pairs], [times[0] for _, times in pairs]


def by_length(clips: Sequence[ClipLike]) -> list[list[int]]:
    """Group the places of clips of equal length."""
    groups: dict[int, list[int]] = {}
    for i, clip in enumerate(clips):
        groups.setdefault(clip.shape[0], []).append(i)
    return list(groups.values())


def check_values(audio: Tensor, labels: Sequence[str]) -> None:
    """Refuse NaN, infinity and samples far outside [-1, 1] in any row of [shape=(n_clips, n_samples)].

    Raises:
        InputError: naming the clip by its label, and the first bad sample.
    """
    audio = audio.detach()
    peaks = torch.maximum(audio.amax(1), -audio.amin(1))  # NaN where a clip holds one
    fine = peaks <= MAX_PEAK
    try:
        if bool(fine.all()):
            return
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        raise InputError("samples cannot be checked within torch.func.vmap; give all clips in one call") from error
    row = int(torch.nonzero(~fine)[0])
    peak = float(peaks[row])
    if not np.isfinite(peak):
        bad = ~torch.isfinite(audio[row])
        place = int(torch.nonzero(bad)[0])
        raise InputError(
            f"{labels[row]} holds {int(bad.sum())} samples that are NaN or infinite, the first at sample {place}; "
            "only finite samples in [-1, 1] are accepted"
        )
    raise InputError(
        f"{labels[row]} peaks at {peak:g}; samples must lie in [-1, 1]. If they are integers cast to float, divide "
        "16-bit samples by 32768"
    )


def check_vectors(vectors: Tensor, name: Callable[[int], str]) -> None:
    """Refuse embeddings [shape=(n, size)] that hold NaN or infinite values.

    Raises:
        InputError: saying by ``name`` what the first such row is of.
    """
    fine = torch.isfinite(vectors).all(1)
    if not bool(fine.all()):
        raise InputError(
            f"the embedding of {name(int(torch.nonzero(~fine)[0]))} holds NaN or infinite values although its samples "
            "are fine: the model's weights are damaged or its precision is too low for this sound; load the model "
            "with precision='float32', or take other weights"
        )


def pad_short(audio: Tensor, min_samples: int) -> Tensor:
    """Follow clips [shape=(n_clips, n_samples)] that are shorter than ``min_samples`` by zeros up to that length."""
    missing = min_samples - audio.shape[1]
    return F.pad(audio, (0, missing)) if missing > 0 else audio  # F.pad copies even where it adds nothing
