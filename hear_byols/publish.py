"""Giving a checkpoint its credits, and uploading it with a model card to the Hugging Face Hub.

Only self-describing checkpoints with a licence are published, after they have been loaded and have embedded something.
"""

import csv
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hear_byols._util.files import file_digest
from hear_byols.errors import CheckpointError, InputError, OptionError, PublishError
from hear_byols.hear import load_model
from hear_byols.weights.checkpoint import SCHEMA, read_checkpoint, save_checkpoint
from hear_byols.weights.locate import is_repo, locate, offline, presentable, root_cause
from hear_byols.weights.repository import write_repository

logger = logging.getLogger(__name__)
_LEFT_OUT = ("shard", "clips", "hours", "bytes", "kind", "clean")  # of a manifest; the hours are the run's


@dataclass(frozen=True)
class Publication:
    """What was, or on a dry run would be, uploaded."""

    spec: str  # what load_model takes to get exactly this file; pinned to the commit unless it was a dry run
    files: dict[str, int]  # names in the repository and sizes in bytes
    card: str  # the model card
    commit: str | None  # its id; None on a dry run


def publish(
    checkpoint: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    revision: str = "main",
    message: str = "",
    dry_run: bool = False,
) -> Publication:
    """Check a checkpoint and upload it in one commit: as ``model.safetensors``, with a card and transformers' files.

    The repository and the branch are made if they do not exist; files of the same names are replaced.

    Args:
        checkpoint: as for :func:`hear_byols.load_model`; a file that this package wrote, with a licence.
        repo: ``owner/name`` on the Hub.
        private: make the repository private; an existing one must be private.
        revision: branch.
        message: of the commit.
        dry_run: check and write the card, but upload nothing and open no socket.

    Raises:
        OptionError: ``repo`` or ``revision`` is not one the Hub takes, or there is no file to upload.
        CheckpointError: the checkpoint is faulty, not self-describing, without licence, or its vectors are useless.
        WeightsNotFoundError: there is no such checkpoint.
        PublishError: no token, no right to write, no connection, or the Hub refused.
    """
    if not is_repo(repo):
        raise OptionError(f"a repository is written owner/name, got {repo!r}")
    if not re.fullmatch(r"[A-Za-z0-9][\w./-]*", revision):
        raise OptionError(f"revision must be a branch's name, got {revision!r}")
    path = _publishable(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        files = write_repository(Path(folder), path, repo, revision)
        weights, card = files[0], (Path(folder) / "README.md").read_text(encoding="utf-8")
        commit = None if dry_run else _upload(repo, files, revision, message or f"Add {path.name}", private)
        spec = f"hf://{repo}/{weights.name}@{commit or revision}#sha256={file_digest(weights)}"
        return Publication(spec, {file.name: file.stat().st_size for file in files}, card, commit)


def _publishable(checkpoint: str | os.PathLike[str]) -> Path:
    """The file to publish, after everything about it has been checked."""
    path = locate(checkpoint).path
    if path is None:
        raise OptionError(f"{checkpoint!r} has no file that could be published")
    content = read_checkpoint(path)
    if content.schema != SCHEMA:
        raise CheckpointError(
            f"{path}: a bare state dict says neither its front end nor its licence; if you may publish it, write it "
            "with hear_byols.save_checkpoint first"
        )
    if not content.provenance.get("licence"):
        raise CheckpointError(
            f"{path}: the provenance states no licence; write the checkpoint again with provenance={{'licence': ...}}"
        )
    _check_vectors(path)
    return path


def _check_vectors(path: Path) -> None:
    """Embed silence and two noises: all must be finite, and the noises must not look the same."""
    model = load_model(path)
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(2, model.sample_rate, generator=generator)
    audio = torch.cat([noise * torch.tensor([[1.0], [0.01]]), torch.zeros(1, model.sample_rate)])
    try:
        scenes = model.scene_embeddings(audio)
        model.timestamp_embeddings(audio[:1])
    except InputError as error:
        raise CheckpointError(f"{path}: the model gives vectors with NaN or infinite values ({error})") from error
    if torch.allclose(scenes[0], scenes[1], rtol=1e-5, atol=0):
        raise CheckpointError(f"{path}: the model gives the same vector for different sounds; it has collapsed")


def _upload(repo: str, files: Sequence[Path], revision: str, message: str, private: bool) -> str:
    if offline():
        raise PublishError("nothing was published: HEAR_BYOLS_OFFLINE or HF_HUB_OFFLINE is set")
    from huggingface_hub import CommitOperationAdd, HfApi, errors, get_token

    if not get_token():
        raise PublishError("nothing was published: no token; run `hf auth login` or set HF_TOKEN to one that may write")
    api = HfApi(library_name="hear_byols")
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise PublishError(f"nothing was published: {repo} exists and is public; make it private on its page first")
        if revision != "main":
            api.create_branch(repo, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
        commit = api.create_commit(repo, operations, commit_message=message, revision=revision)
    except PublishError:
        raise
    except errors.HFValidationError as error:
        raise OptionError(f"the Hub does not take the name {repo!r}: {root_cause(error)}") from error
    except errors.RepositoryNotFoundError as error:
        raise PublishError(
            f"nothing was published: the Hub knows no repository {repo!r} that this token may see; make it on the Hub "
            "or use a token that may make repositories"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        advice = {
            401: "the token is not valid; run `hf auth login` again",
            403: f"the token may not write to {repo!r}; use one with write access to it",
        }.get(status or 0, "try again later")
        raise PublishError(
            f"nothing was published: the Hub answered {status} ({root_cause(error)}); {advice}"
        ) from error
    except Exception as error:  # the client's transport has its own errors, of another library in each major version
        raise PublishError(f"nothing was published: {root_cause(error)}") from presentable(error)
    logger.info("published %s", commit.commit_url)
    return commit.oid


def read_manifest(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Read what is known about the sources of audio: for each, by the shard's name without its suffix, its columns.

    Args:
        path: CSV file with the columns ``shard`` and ``licence``, and any of ``content``, ``author``, ``link`` and
            ``version``.

    Raises:
        InputError: the file cannot be read, or a column is missing.
    """
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of sources ({error})") from error
    missing = {"shard", "licence"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{path} needs the columns shard and licence; missing: {', '.join(sorted(missing))}")
    return {Path(row["shard"]).stem: {k: v for k, v in row.items() if k and v and k not in _LEFT_OUT} for row in rows}


def add_provenance(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    licence: str = "",
    name: str = "",
    description: str = "",
    manifest: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a checkpoint again with what its author says of it; weights and vectors stay as they are.

    Args:
        checkpoint: a file that this package wrote.
        output: ends in ``.pth`` or ``.safetensors``; may be the same file.
        licence: of the weights, an SPDX identifier such as ``CC-BY-4.0``; empty keeps what is there, as below.
        name: of the model.
        description: one sentence.
        manifest: see :func:`read_manifest`; every source of the run must stand in it.

    Returns:
        ``output``.

    Raises:
        CheckpointError: the file is faulty, or a bare state dict.
        InputError: the manifest cannot be read, or lacks a source.
    """
    content = read_checkpoint(Path(checkpoint))
    if content.schema != SCHEMA:
        raise CheckpointError(f"{checkpoint}: a bare state dict has no provenance; write it with save_checkpoint first")
    given = {"name": name, "description": description, "licence": licence}
    provenance = {**content.provenance, **{key: value for key, value in given.items() if value}}
    if manifest is not None:
        sources, data = read_manifest(manifest), provenance.get("data")
        rows = data if isinstance(data, list) else []
        missing = [row["name"] for row in rows if row["name"] not in sources]
        if missing or not rows:
            lacks = ", ".join(missing) or "the checkpoint: it names no sources"
            raise InputError(f"{manifest} says nothing of {lacks}")
        provenance["data"] = [{**row, **sources[row["name"]]} for row in rows]
    save_checkpoint(output, content.config, content.state_dict, provenance, half=content.fits_half)
    return Path(output)
