"""Models in the words of the Hugging Face Hub: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``."""

from __future__ import annotations

import inspect
import os
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin

from hear_byols.errors import OptionError
from hear_byols.extraction.files import PathLike
from hear_byols.hear import load_encoder, load_model
from hear_byols.model import EmbeddingModel
from hear_byols.publish import publish
from hear_byols.weights.checkpoint import Checkpoint
from hear_byols.weights.locate import is_repo, locate
from hear_byols.weights.registry import find_record
from hear_byols.weights.repository import WEIGHTS_FILE, write_repository


class HubModel(EmbeddingModel, ModelHubMixin, library_name="hear_byols"):
    """An ``EmbeddingModel`` that is loaded from, saved as, and uploaded to a model repository.

    Made by :func:`from_pretrained`. A repository's ``model.safetensors`` is a checkpoint with its digest.
    """

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: PathLike = "", *, revision: str | None = None, **options: Any
    ) -> HubModel:
        """As the function :func:`from_pretrained`."""
        known = inspect.signature(load_model).parameters
        unknown = [name for name in options if name not in known]
        if unknown:
            raise OptionError(f"options are those of load_model, got {', '.join(unknown)}; the Hub's are HF_TOKEN ...")
        spec = _spec(pretrained_model_name_or_path, revision)
        source = locate(spec)
        if source.record is not None and not source.record.encoder:
            raise OptionError(f"{os.fspath(spec)!r} has no checkpoint of this package; hear_byols.load_model loads it")
        return load_encoder(source, cls, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_repository(save_directory, self._checkpoint(), str(save_directory))

    def push_to_hub(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, repo_id: str, *, private: bool = False, branch: str = "main", commit_message: str = "", **_: Any
    ) -> str:
        """Upload the model as ``hear_byols.publish.publish`` does, which checks it first.

        Args:
            repo_id: ``owner/name``; made if it does not exist.
            private: make it private.
            branch: made if it does not exist.
            commit_message: of the one commit.
            **_: what ``save_pretrained(..., push_to_hub=True)`` passes beside; the card and the settings are ours.

        Returns:
            ``hf://owner/name/model.safetensors@COMMIT#sha256=...``: what ``load_model`` takes to get exactly this.

        Raises:
            CheckpointError: ``model.provenance`` states no licence, or the vectors are useless.
            PublishError: no token, no right to write, no connection, or the Hub refused.
        """
        with tempfile.TemporaryDirectory() as folder:
            weights = write_repository(Path(folder), self._checkpoint(), repo_id, branch)[0]
            return publish(weights, repo_id, private=private, revision=branch, message=commit_message).spec

    def _checkpoint(self) -> Checkpoint:
        weights = {name: value.detach().cpu() for name, value in self.encoder.state_dict().items()}
        return Checkpoint(self.config, weights, self.provenance)


def from_pretrained(model: PathLike = "", *, revision: str | None = None, **options: Any) -> HubModel:
    """Load a model that can save and upload itself: ``model.save_pretrained(folder)``, ``model.push_to_hub(repo)``.

    Args:
        model: a name of ``list_models()``; a repository of the Hugging Face Hub, ``owner/name``; a folder that
            ``save_pretrained`` wrote; or a file. Empty for the default model.
        revision: branch, tag or commit of a repository.
        **options: of ``load_model``.

    Raises:
        OptionError: an option is out of range, or the model has no checkpoint of this package.
        WeightsNotFoundError: no such weights.
        DownloadError: the weights could not be fetched whole.
        CheckpointError: the file is not a checkpoint, or contradicts itself.
    """
    return HubModel.from_pretrained(model, revision=revision, **options)


def _spec(name: PathLike, revision: str | None) -> PathLike:
    """What ``locate`` takes; a name that is known means a model, whatever lies in the current folder."""
    text = os.fspath(name)
    path = Path(text).expanduser()
    if find_record(text) is None and text:
        if path.is_dir():
            return path / WEIGHTS_FILE
        if is_repo(text) and not path.is_file():
            return f"hf://{text}/{WEIGHTS_FILE}" + (f"@{revision}" if revision else "")
    if revision is not None:
        raise OptionError(f"a revision is one of a repository, owner/name, got {text!r}")
    return name
