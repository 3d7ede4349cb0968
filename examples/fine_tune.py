"""Fine-tune an encoder with a linear head in plain torch, or train the head alone with ``--frozen``.

``model(audio)`` computes scene embeddings with gradients and honours ``train()`` and ``eval()``;
``get_scene_embeddings(audio, model)`` always works in evaluation mode without gradients, and so do the tests here.
Without ``--data`` the script makes its own audio and runs in seconds::

    python examples/fine_tune.py
    python examples/fine_tune.py --frozen
    python examples/fine_tune.py --data FOLDER --seconds 3 --save mine.pth   # FOLDER/<class>/*.wav

It prints the accuracy on the held-out clips before and after the training. ``--save mine.pth`` writes the encoder, for
``hear_byols.load_model``, and beside it ``mine.hbc`` with head and classes, for ``hear-byols classify predict``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from example_data import find_files, synthesise
from torch import Tensor, nn

from hear_byols import EmbeddingModel, get_scene_embeddings, load_audio, load_model, save_checkpoint
from hear_byols.answers.artefact import Artefact, settings_of
from hear_byols.answers.head import Head

BATCH_SIZE = 16
TEST_SHARE = 0.3
ENCODER_RATE = 1e-4
HEAD_RATE = 1e-3


def main() -> None:
    """Train and test an encoder with its head, or the head alone."""
    args = _arguments()
    torch.manual_seed(args.seed)
    model = load_model(args.model).to(args.device)
    if args.data:
        paths, names = find_files(args.data)
        clips = [load_audio(path, model.sample_rate, as_tensor=True) for path in paths]
        audio = torch.stack([_fixed_length(clip, args.seconds) for clip in clips])
    else:
        clips, names = synthesise()
        audio = torch.from_numpy(clips)
    classes, places = np.unique(names, return_inverse=True)
    audio, labels = audio.to(args.device), torch.from_numpy(places).to(args.device)

    order = torch.randperm(len(audio), device=args.device)
    n_test = round(TEST_SHARE * len(audio))
    test, train = order[:n_test], order[n_test:]
    head = make_head(get_scene_embeddings(audio[train], model), len(classes))
    print(f"{len(audio)} clips of the classes {', '.join(classes)}; {len(train)} to train, {len(test)} to test")
    print(f"test accuracy before: {accuracy(model, head, audio[test], labels[test]):.3f}")
    fit = train_head if args.frozen else fine_tune
    fit(model, head, audio[train], labels[train], args.epochs)
    print(f"training accuracy: {accuracy(model, head, audio[train], labels[train]):.3f}")
    print(f"test accuracy: {accuracy(model, head, audio[test], labels[test]):.3f}")
    if args.save:
        save(args.save, model, head, list(map(str, classes)), args.epochs)


def make_head(vectors: Tensor, n_classes: int) -> nn.Module:
    """A linear classifier on embeddings standardised by the mean and variance of these [shape=(n_clips, size)]."""
    size = vectors.shape[1]
    standardise = nn.BatchNorm1d(size, affine=False, momentum=None, device=vectors.device)
    standardise(vectors)  # in training mode, takes their statistics
    head = nn.Sequential(standardise, nn.Linear(size, n_classes, device=vectors.device))
    return head.eval()  # so that the statistics stay


def fine_tune(model: EmbeddingModel, head: nn.Module, audio: Tensor, labels: Tensor, n_epochs: int) -> None:
    """Train encoder and head together, the encoder at a lower learning rate."""
    groups = [
        {"params": model.parameters(), "lr": ENCODER_RATE},
        {"params": head.parameters(), "lr": HEAD_RATE},
    ]
    optimiser = torch.optim.Adam(groups)
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()  # keeps the statistics of the pre-training: those of a few small batches would be worse
    for _ in range(n_epochs):
        for batch in torch.randperm(len(audio)).split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(head(model(audio[batch])), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()


def train_head(model: EmbeddingModel, head: nn.Module, audio: Tensor, labels: Tensor, n_epochs: int) -> None:
    """Train the head on embeddings that are computed once; the encoder stays as it is."""
    vectors = get_scene_embeddings(audio, model)
    optimiser = torch.optim.Adam(head.parameters(), lr=HEAD_RATE)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(audio)).split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(head(vectors[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def save(path: str, model: EmbeddingModel, head: nn.Module, classes: list[str], epochs: int) -> None:
    """Write the encoder as a checkpoint and, beside it, head and classes as a classifier, NAME.hbc."""
    provenance = {**model.provenance, "fine_tuned": {"classes": classes, "epochs": epochs}}
    save_checkpoint(path, model.config, model.encoder.state_dict(), provenance)
    norm, linear = head[0].cpu(), head[1].cpu()
    arrays = (norm.running_mean, (norm.running_var + norm.eps).sqrt(), linear.weight.T, linear.bias)
    arrays = [array.detach().contiguous().numpy() for array in arrays]
    settings = settings_of(load_model(path), path, False, {})
    training = {"head": "fine-tuned", "epochs": epochs, "scores": {}}
    Artefact("clips", tuple(classes), Head(*arrays), settings, training).save(Path(path).with_suffix(".hbc"))


@torch.no_grad()
def accuracy(model: EmbeddingModel, head: nn.Module, audio: Tensor, labels: Tensor) -> float:
    """Share of clips whose class the head names."""
    return float((head(get_scene_embeddings(audio, model)).argmax(1) == labels).float().mean())


def _fixed_length(samples: Tensor, seconds: float, sample_rate: int = 16000) -> Tensor:
    """Cut a clip, or follow it by zeros, so that clips stack."""
    n_samples = round(seconds * sample_rate)
    return nn.functional.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="audio in one folder a class; by default made here")
    parser.add_argument("--seconds", type=float, default=1.0, help="length that files are cut or padded to")
    parser.add_argument("--model", default="", help="as in hear_byols.load_model; by default the default model")
    parser.add_argument("--frozen", action="store_true", help="train the head alone")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--save", metavar="FILE", help="write the encoder, and beside it the classifier")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
