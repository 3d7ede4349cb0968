"""Fine-tuning: the encoder is trained further, together with its head, from where the frozen encoder's head ends."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from hear_byols._util.progress import progress as progress_of
from hear_byols.answers.head import FARTHEST, Head
from hear_byols.errors import OptionError
from hear_byols.interface import AudioModel
from hear_byols.model import EmbeddingModel

EPOCHS = 10
BATCH_SIZE = 16
LEARNING_RATE = 1e-4  # of Adam; falls to zero along a cosine
MAX_S = 10.0  # of a clip that is heard at a time


def fine_tune(
    model: AudioModel,
    head: Head,
    clips: Sequence[np.ndarray],
    targets: np.ndarray,
    n_epochs: int = EPOCHS,
    seed: int = 0,
    progress: bool = False,
) -> tuple[EmbeddingModel, Head]:
    """Train a copy of an encoder, and its head, by cross-entropy; return both, the encoder in evaluation mode.

    It starts at the head that was fitted to the frozen encoder, which distorts the features least (Kumar et al. 2022,
    "linear probing, then fine-tuning"). Batch norms keep the statistics of the pre-training: those of a few small
    batches would be worse. A batch holds clips of about one length, each a random stretch as long as the shortest.

    Args:
        model: the encoder; stays as it is.
        head: on its vectors, whose scores are logits.
        clips: samples at the model's rate, each [shape=(n_samples,)].
        targets: classes as 0 ... n_classes - 1 [shape=(n_clips,)].
        n_epochs: passes over the clips.
        seed: of their order and stretches, and of the encoder's dropout.
        progress: show how far it is.

    Raises:
        OptionError: the model has nothing to train, as openSMILE and concatenations.
    """
    if not isinstance(model, EmbeddingModel):
        raise OptionError(f"fine-tuning takes a single encoder of this package, got a {type(model).__name__}")
    tuned, device, rng = copy.deepcopy(model), model.device, np.random.default_rng(seed)
    mean, scale = (torch.from_numpy(value).to(device) for value in (head.mean, head.scale))
    weights, bias = (nn.Parameter(torch.tensor(value, device=device)) for value in (head.weights, head.bias))
    optimizer = torch.optim.Adam([*tuned.parameters(), weights, bias], lr=LEARNING_RATE)
    n_steps = n_epochs * -(-len(clips) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    labels = torch.from_numpy(targets).to(device)
    tuned.train()
    for module in tuned.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()
    with torch.random.fork_rng(devices=[]), progress_of(n_steps, "step", shown=progress) as advance:
        torch.manual_seed(seed)
        for _ in range(n_epochs):
            for places, audio in _batches(clips, round(MAX_S * tuned.sample_rate), rng):
                vectors = ((tuned(audio.to(device)) - mean) / scale).clamp(-FARTHEST, FARTHEST)
                loss = nn.functional.cross_entropy(vectors @ weights + bias, labels[places])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                advance(1)
    optimizer.zero_grad()
    arrays = (value.detach().cpu().numpy() for value in (weights, bias))
    return tuned.eval(), Head(head.mean, head.scale, *arrays)


def _batches(
    clips: Sequence[np.ndarray], most: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Places of clips of about one length, and a random stretch of each [shape=(n, n_samples)]."""
    lengths = np.array([len(clip) for clip in clips])
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)))
    batches = [order[first : first + BATCH_SIZE] for first in range(0, len(order), BATCH_SIZE)]
    for number in rng.permutation(len(batches)):
        places = batches[number]
        n = min(int(lengths[places].min()), most)
        starts = rng.integers(0, lengths[places] - n + 1)
        stretches = [clips[place][start : start + n] for place, start in zip(places, starts, strict=True)]
        yield places, torch.from_numpy(np.stack(stretches).astype(np.float32))
