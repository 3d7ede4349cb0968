"""Similarity of all layers of two models by minibatch CKA (paper, section 4.1 and Figure 3; Nguyen et al. 2021).

Gram matrices, the unbiased HSIC estimator and CKA (Kornblith et al. 2019; Song et al. 2012) are in double precision.

A layer's activation over a window is flattened whole, as in the paper. It becomes a row of a Gram matrix as soon as it
is computed and is then let go, so memory holds one minibatch's forward pass and its Gram matrices.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_byols._util.progress import progress as progress_of
from hear_byols.analysis.layers import named_layers, watching
from hear_byols.errors import OptionError

KERNELS = ("linear", "rbf")
MIN_EXAMPLES = 4  # of the unbiased estimator
_BLOCK = 8192  # features that are held in double precision at a time
_MIN_WINDOWS = 50  # windows, below which the estimate is rough
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Similarity:
    """CKA of each layer of one model with each layer of another: 1 is equal, 0 unrelated."""

    values: np.ndarray  # float64 [shape=(n_layers_a, n_layers_b)]; NaN of a layer without variation
    layers_a: tuple[str, ...]  # names of the first model's layers, in the order in which they compute
    layers_b: tuple[str, ...]  # of the second model's
    kernel: str  # "linear" or "rbf"
    n_windows: int  # windows of audio they were compared over


class LayerGrams:
    """U-centred kernel matrices of all layers of a model, a minibatch of audio at a time.

    The bandwidth of the RBF kernel is set by the first minibatch and kept: one kernel for all minibatches. Arguments
    and errors are those of :func:`compare_layers`.
    """

    def __init__(self, model: Any, detail: str = "blocks", kernel: str = "linear", bandwidth: float = 1.0) -> None:
        if kernel not in KERNELS:
            raise OptionError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}")
        if not 0 < bandwidth < float("inf"):
            raise OptionError(f"bandwidth must be a positive multiple of the median distance, got {bandwidth!r}")
        self.model = model
        self._layers = named_layers(model, detail)
        self._rbf = kernel == "rbf"
        self._multiple = bandwidth
        self._bandwidths: dict[str, float] = {}
        self.names: tuple[str, ...] = ()

    def __call__(self, audio: Tensor) -> Tensor:
        """Embed windows [shape=(n, n_samples)] to float64 kernel matrices on the CPU [shape=(n_layers, n, n)]."""
        grams: dict[str, Tensor] = {}

        def take(name: str, activation: Tensor) -> None:
            gram = linear_gram(activation)
            if self._rbf:
                norms = gram.diagonal()
                squares = (norms[:, None] + norms - 2 * gram).clamp_min(0)  # of the Euclidean distances of all pairs
                if name not in self._bandwidths:
                    rows, columns = torch.triu_indices(*gram.shape, offset=1)
                    self._bandwidths[name] = self._multiple * float(squares[rows, columns].sqrt().median())
                width = self._bandwidths[name]
                # A width of 0 (most examples are equal): examples without variation.
                gram = torch.exp(squares / (-2 * width**2)) if width else torch.zeros_like(gram)
            grams[name] = u_centred(gram).cpu()

        batch_size = self.model.batch_size
        try:
            self.model.batch_size = len(audio)  # one call of the encoder for all of them
            with watching(self._layers, take):
                self.model.scene_embeddings(audio.to(self.model.device))
        except torch.cuda.OutOfMemoryError as error:
            raise OptionError(
                f"the device has no memory left for {len(audio)} windows; use a smaller batch_size (--batch-size) or "
                "device='cpu' (--device cpu)"
            ) from error
        finally:
            self.model.batch_size = batch_size
        self.names = tuple(grams)
        return torch.stack(list(grams.values()))


def compare_layers(
    model_a: Any,
    model_b: Any,
    windows: np.ndarray,
    *,
    detail: str = "blocks",
    kernel: str = "linear",
    bandwidth: float = 1.0,
    batch_size: int = 64,
    passes: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Similarity:
    """Compare all layers of two models over windows of audio.

    HSIC is estimated without bias in minibatches and averaged before the division, so the result approaches that of all
    windows at once, whatever the size of the minibatches.

    Args:
        model_a: from ``hear_byols.load_model``; evaluated, never changed.
        model_b: likewise, of the same sample rate; the same object compares a model's layers with one another.
        windows: float32 [shape=(n_windows >= 4, n_samples)], from ``read_windows``.
        detail: ``"blocks"`` or ``"all"`` layers.
        kernel: ``"linear"`` or ``"rbf"``.
        bandwidth: of the RBF kernel, as a multiple of each layer's median distance of two windows.
        batch_size: most windows in a minibatch, 8 or more.
        passes: how often all windows are gone through, each time in other minibatches.
        seed: of the minibatches.
        progress: show how far it is, on standard error.

    Raises:
        OptionError: models without layers or of different sample rates, or an option is out of range.
        InputError: the windows cannot be embedded.
    """
    if model_a.sample_rate != model_b.sample_rate:
        raise OptionError(
            f"the models take audio of different rates, {model_a.sample_rate} and {model_b.sample_rate} Hz"
        )
    grams_a = LayerGrams(model_a, detail, kernel, bandwidth)
    grams_b = grams_a if model_b is model_a else LayerGrams(model_b, detail, kernel, bandwidth)
    if len(windows) < _MIN_WINDOWS:
        _log.warning("%d windows are few; the similarities are rough below some hundreds", len(windows))
    batches = list(_minibatches(len(windows), batch_size, passes, seed))
    cross = own_a = own_b = torch.zeros(1, dtype=torch.float64)
    with progress_of(len(batches), "step", shown=progress) as advance:
        for places in batches:
            audio = torch.from_numpy(windows[places])
            a = grams_a(audio)
            b = a if grams_b is grams_a else grams_b(audio)
            cross = cross + unbiased_hsic(a, b)
            own_a, own_b = own_a + unbiased_hsic(a, a).diagonal(), own_b + unbiased_hsic(b, b).diagonal()
            advance(1)
    values = cross / torch.sqrt(own_a[:, None] * own_b)
    values = torch.where(torch.isfinite(values), values, torch.nan)
    for names, own in ((grams_a.names, own_a), (grams_b.names, own_b)):
        idle = ", ".join(name for name, value in zip(names, own.tolist(), strict=True) if value == 0)
        if idle:
            _log.warning("these layers do not vary over the windows, so nothing is similar to them: %s", idle)
    return Similarity(values.numpy(), grams_a.names, grams_b.names, kernel, len(windows))


def _minibatches(n: int, size: int, passes: int, seed: int) -> Iterator[np.ndarray]:
    """Yield places in random order, every place once a pass, in minibatches of sizes that differ by at most one."""
    if size < 2 * MIN_EXAMPLES:
        raise OptionError(f"batch_size must be at least {2 * MIN_EXAMPLES} windows, got {size}")
    if passes < 1:
        raise OptionError(f"passes must be at least 1, got {passes}")
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        yield from np.array_split(rng.permutation(n), -(-n // size))


def linear_gram(activations: Tensor) -> Tensor:
    """Inner products of all pairs of examples, relative to the first: float64 [shape=(n_examples, n_examples)].

    The shift changes neither distances nor CKA, and keeps a large common offset from eating the digits. All axes of the
    activations but the first are flattened.
    """
    features = activations.flatten(1)
    if features.device.type == "mps":  # Apple's GPUs have no double precision
        features = features.cpu()
    gram = torch.zeros(len(features), len(features), dtype=torch.float64, device=features.device)
    for block in features.split(_BLOCK, dim=1):
        shifted = block.double()
        shifted = shifted - shifted[:1]
        gram += shifted @ shifted.T
    return gram


def u_centred(gram: Tensor) -> Tensor:
    """Centre a kernel matrix for the unbiased estimator: zero diagonal, and all rows and columns sum to zero.

    Raises:
        OptionError: fewer than four examples.
    """
    n = len(gram)
    if n < MIN_EXAMPLES:
        raise OptionError(f"the unbiased estimator needs at least {MIN_EXAMPLES} examples, got {n}")
    off = gram.clone().fill_diagonal_(0)
    sums = off.sum(0)
    centred = off - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return centred.fill_diagonal_(0)


def unbiased_hsic(centred_a: Tensor, centred_b: Tensor) -> Tensor:
    """HSIC without bias (Song et al. 2012) of every pair, as inner products of U-centred kernel matrices.

    They are stacked, over the same examples: [shape=(n_a, n, n)] and [shape=(n_b, n, n)] -> float64 [shape=(n_a, n_b)].
    """
    n = centred_a.shape[-1]
    return centred_a.flatten(1) @ centred_b.flatten(1).T / (n * (n - 3))
