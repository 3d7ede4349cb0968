"""Saved states of a run: written atomically, the newest few kept, the newest one continued from."""

from __future__ import annotations

from pathlib import Path

import torch

from hear_byols._util.files import atomic_path
from hear_byols.errors import CheckpointError
from hear_byols.training.trainer import Trainer

_PATTERN = "step-*.pt"


def save_state(trainer: Trainer, folder: Path, keep: int) -> Path:
    """Write the state of a run, and remove all but the newest ``keep``.

    Args:
        trainer: the run.
        folder: of the states.
        keep: how many stay.

    Returns:
        The file.
    """
    path = folder / f"step-{trainer.n_steps:09d}.pt"
    with atomic_path(path) as part:
        torch.save(trainer.state_dict(), part)
    for old in states(folder)[:-keep]:
        old.unlink()
    return path


def states(folder: Path) -> list[Path]:
    """Saved states, the newest last."""
    return sorted(folder.glob(_PATTERN))


def load_newest(trainer: Trainer, folder: Path) -> bool:
    """Continue from the newest state, if there is one.

    Returns:
        Whether there was.

    Raises:
        CheckpointError: it cannot be read, or belongs to another run.
    """
    found = states(folder)
    if not found:
        return False
    try:
        state = torch.load(found[-1], map_location=trainer.device, weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise CheckpointError(
            f"{found[-1]} cannot be read as the state of a run ({error}); remove it to continue from the one before"
        ) from error
    trainer.load_state_dict(state)
    return True
