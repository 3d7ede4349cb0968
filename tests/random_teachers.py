"""Teachers with random weights, and sounds for them."""

import dataclasses

import torch

from hear_byols.teachers import CLASSES
from hear_byols.weights.digest import content_digest
from hear_byols.weights.teachers import TEACHERS


def random_teacher(name, **options):
    """A teacher with random weights, the same each time, and filters that see something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = CLASSES[name](**options)
        for key, buffer in teacher.named_buffers():
            if "mel" in key and not buffer.any():
                buffer.copy_(torch.rand_like(buffer))
    return teacher.eval().requires_grad_(False)


def record_random(monkeypatch, name, **files):
    """Let a teacher be recorded as the random one, made from these files; its weights."""
    state = random_teacher(name).state_dict()
    record = dataclasses.replace(TEACHERS[name], weights=(content_digest(state),), **files)
    monkeypatch.setitem(TEACHERS, name, record)
    return state


def sounds(n_clips, n_samples, seed=0):
    """Noise from quiet to loud."""
    noise = torch.randn(n_clips, n_samples, generator=torch.Generator().manual_seed(seed))
    return noise * torch.logspace(-3, -1, n_clips)[:, None]
