"""Saved states of a run: written atomically, the newest few kept, the newest whole one continued from."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from hear_byols._util.files import CONTINUES, output_path
from hear_byols.errors import CheckpointError
from hear_byols.training.trainer import Trainer

logger = logging.getLogger(__name__)

_PATTERN = "step-*.pt"


def save_state(trainer: Trainer, folder: Path, keep: int) -> Path:
    """Write the state of a run, and remove all but the newest ``keep``.

    Args:
        trainer: the run.
        folder: of the states.
        keep: how many stay.

    Returns:
        The file.

    Raises:
        OutputError: the file cannot be written; those before it are kept.
    """
    path = folder / f"step-{trainer.n_steps:09d}.pt"
    with output_path(path, CONTINUES) as part:
        torch.save(trainer.state_dict(), part)
    for old in states(folder)[:-keep]:
        old.unlink()
    return path


def states(folder: Path) -> list[Path]:
    """Saved states, the newest last."""
    return sorted(folder.glob(_PATTERN))


def load_newest(trainer: Trainer, folder: Path) -> bool:
    """Continue from the newest state that is whole, if there is one; damaged ones are passed over with a warning.

    Returns:
        Whether there was.

    Raises:
        CheckpointError: none of the states there are is whole, or they belong to another run.
    """
    found = states(folder)
    for path in reversed(found):
        try:
            state = _read(path, trainer)
        except CheckpointError as error:
            logger.warning("%s", error)
            continue
        trainer.load_state_dict(state)
        return True
    if found:
        raise CheckpointError(f"none of the {len(found)} states in {folder} can be read; remove them to begin anew")
    return False


def _read(path: Path, trainer: Trainer) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not compare the checksums
        state = torch.load(path, map_location=trainer.device, weights_only=True) if damaged is None else None
    except Exception as error:  # zipfile and torch raise many kinds
        raise CheckpointError(f"{path} cannot be read as the state of a run ({error})") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} is another one")
    if not isinstance(state, dict) or "n_steps" not in state:
        raise CheckpointError(f"{path} is not the state of a run")
    return state
