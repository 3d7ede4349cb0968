"""From a model's name to a verified local file: path, shipped, cache, download, in this order.

Downloads go to a temporary file, are verified and only then take their place, so that no interruption and no concurrent
download leaves a bad file. With ``HEAR_BYOLS_OFFLINE=1`` or ``HF_HUB_OFFLINE=1`` no socket is opened.
"""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hear_byols._util.files import file_digest, git_blob_id, output_path
from hear_byols.errors import CheckpointError, DownloadError, OptionError, OutputError, WeightsNotFoundError
from hear_byols.weights.download import download, redacted
from hear_byols.weights.records import TeacherRecord, WeightRecord
from hear_byols.weights.registry import DEFAULT_MODEL, ORIGINAL_SOURCE, find_record, list_models
from hear_byols.weights.teachers import how_to_add, list_teachers

_PART = r"(?!\.{1,2}(?:[/@#]|$))[^/@#\s]+"  # of a path: neither empty nor . nor ..
_HUB_PATTERN = re.compile(
    rf"hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>{_PART}(/{_PART})*)(@(?P<revision>{_PART}(/{_PART})*))?"
    r"(#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)
_OWNER = r"[A-Za-z0-9][\w.-]*"


@dataclass(frozen=True)
class Source:
    """Where weights were found."""

    path: Path | None  # None for models without a file (untrained, openSMILE)
    record: WeightRecord | None = None  # the zoo's, if the weights have one


def cache_dir() -> Path:
    """Folder of downloaded weights: ``HEAR_BYOLS_HOME``, by default ``~/.cache/hear_byols``.

    Files from the Hugging Face Hub stay in the Hub's own cache (``HF_HOME``).
    """
    return Path(os.environ.get("HEAR_BYOLS_HOME") or Path.home() / ".cache" / "hear_byols")


def offline() -> bool:
    """Whether ``HEAR_BYOLS_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network (1, true, yes or on)."""
    values = (os.environ.get(name, "") for name in ("HEAR_BYOLS_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.strip().lower() in ("1", "true", "yes", "on") for value in values)


def shipped_dir() -> Path:
    """Folder of the weights that travel with the package: beside its modules, or in a source checkout's top level."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


def is_repo(name: str) -> bool:
    """Whether a name is written as that of a repository, ``owner/name``."""
    return re.fullmatch(f"{_OWNER}/{_OWNER}", name) is not None


def locate(spec: str | os.PathLike[str] = "") -> Source:
    """Find weights, downloading them if they are neither local nor cached.

    Args:
        spec: empty for the default model; a path; the name of a shipped file (``"cvt_hybrid.pth"``); a name of
            :func:`~hear_byols.weights.registry.list_models`; or ``hf://owner/repo/file.pth@revision``, optionally
            followed by ``#sha256=<64 hex digits>``. What has a suffix or a slash may be a file, which goes first;
            anything else is a name, whatever lies in the current folder.

    Raises:
        WeightsNotFoundError: nothing by this name, or not local while offline.
        DownloadError: the download failed, or its content is not what was promised.
        CheckpointError: a shipped or cached file is not what the zoo's record says.
    """
    if not isinstance(spec, (str, os.PathLike)) or not isinstance(os.fspath(spec), str):
        raise OptionError(f"a model is named by a string or a path, got {type(spec).__name__}")
    file = existing_file(spec)
    spec = os.fspath(spec)
    if spec.startswith("hf://"):
        return Source(_from_hub(spec))
    if file is not None:
        return Source(file)
    record = find_record(spec or DEFAULT_MODEL)
    if record is None:
        shipped = shipped_dir() / spec
        if os.path.basename(spec) == spec and os.path.isfile(shipped):
            return Source(shipped)
        if os.path.isdir(os.path.expanduser(spec)):
            raise WeightsNotFoundError(f"{spec!r} is a folder; give the checkpoint file in it")
        raise WeightsNotFoundError(_unknown(spec))
    if record.source in ("random", "opensmile"):
        return Source(None, record)
    if isinstance(record, TeacherRecord):
        return Source(added_teacher(record), record)
    path = local_file(record)
    if path is None:
        return Source(_downloaded(record), record)
    if fault := _fault(path, record):
        raise CheckpointError(f"{path} is not the file of record {record.name!r}: {fault}; delete it and try again")
    return Source(path, record)


def existing_file(spec: str | os.PathLike[str]) -> Path | None:
    """The file that a path names, if it exists; None for names, which have neither a suffix nor a slash."""
    path = os.path.expanduser(spec)
    is_path = isinstance(spec, os.PathLike) or os.path.basename(path) != path or os.path.splitext(path)[1] != ""
    return Path(path) if is_path and os.path.isfile(path) else None


def local_file(record: WeightRecord) -> Path | None:
    """The file of a record if it is on this machine, unverified and without touching the network; None otherwise."""
    folders = [shipped_dir()] if record.source in ("shipped", "checkout") else []
    folders += [cache_dir()] if record.source in ("url", "teacher", "checkout") else []
    return next((folder / record.file for folder in folders if (folder / record.file).is_file()), None)


def added_teacher(record: TeacherRecord) -> Path:
    """The file of a teacher, not yet compared with its record.

    Raises:
        WeightsNotFoundError: there is none; the message names the commands that bring it.
    """
    path = cache_dir() / record.file
    if not path.is_file():
        raise WeightsNotFoundError(
            f"the teacher {record.name!r} is not on this machine ({path} is missing); two commands bring it: "
            f"{' && '.join(how_to_add(record))}"
        )
    return path


def _unknown(spec: str) -> str:
    shipped = [path.name for path in sorted(shipped_dir().glob("[!.]*.pth"))]
    near = difflib.get_close_matches(spec, [*list_models(), *list_teachers(), *shipped], n=3)
    advice = f"did you mean {' or '.join(near)}? " if near else ""
    if is_repo(spec) and not spec.endswith((".pth", ".safetensors")):
        advice = f"A repository of the Hub is loaded by from_pretrained({spec!r}) or hf://{spec}/model.safetensors. "
    if os.path.isfile(spec):
        advice = f"The file of this name here is {os.path.join('.', spec)}. "
    return (
        f"no weights {spec[:200]!r}: not an existing file, not shipped, not a known name. {advice}"
        f"Known names: {', '.join(list_models())}; teachers: {', '.join(list_teachers())}; "
        f"shipped files: {', '.join(shipped) or 'none'}; or hf://owner/repo/file"
    )


def _fault(path: Path, record: WeightRecord) -> str:
    """Compare a file with its record; an empty string means that all agrees."""
    size = path.stat().st_size
    if record.size is not None and size != record.size:
        return f"it has {size} bytes instead of {record.size}"
    if record.sha256 and (digest := file_digest(path)) != record.sha256:
        return f"its sha256 is {digest} instead of {record.sha256}"
    if record.git_blob and (blob := git_blob_id(path)) != record.git_blob:
        return f"its git blob id is {blob} instead of {record.git_blob} ({size} bytes)"
    return ""


def _downloaded(record: WeightRecord) -> Path:
    """Fetch what is not on this machine into the cache, or say why it cannot be fetched."""
    if record.source == "checkout":
        raise WeightsNotFoundError(
            f"{record.file} is part of the source repository and its archive (checkpoints/), not of the installed "
            f"package; put it into {cache_dir()}, or give its path"
        )
    if record.source == "shipped":
        raise WeightsNotFoundError(f"{record.file} should be shipped in {shipped_dir()} but is not there; reinstall")
    path, url, mirror = cache_dir() / record.file, record.location, os.environ.get("HEAR_BYOLS_ORIGINAL_MIRROR")
    if mirror and url.startswith(ORIGINAL_SOURCE):
        url = f"{mirror.rstrip('/')}/{url.removeprefix(ORIGINAL_SOURCE)}"
    shown = redacted(url)
    if offline():
        raise WeightsNotFoundError(
            f"{record.name!r} is not cached ({path} is missing) and the environment says offline; unset "
            f"HEAR_BYOLS_OFFLINE and HF_HUB_OFFLINE once, or put the file of {shown} there"
        )
    try:
        with output_path(path, "set HEAR_BYOLS_HOME to a folder for such files") as part:
            download(url, part, record.size)
            if fault := _fault(part, record):
                what = f"is not the file of {record.name!r}: {fault}"
                raise DownloadError(f"the download of {shown} {what}; nothing was kept")
    except OutputError as error:
        raise DownloadError(str(error)) from error
    return path


def _from_hub(spec: str) -> Path:
    """Fetch ``hf://owner/repo/file@revision#sha256=...`` through the Hub's client and cache."""
    match = _HUB_PATTERN.fullmatch(spec)
    if match is None:
        raise OptionError(
            "a Hub file is written hf://owner/repo/file.pth@revision, optionally followed by #sha256= and 64 hex "
            f"digits; got {spec!r}"
        )
    from huggingface_hub import errors, hf_hub_download

    repo, file, revision = match["repo"], match["file"], match["revision"]
    absent = {  # what the Hub refuses, the special before the general
        errors.GatedRepoError: f"access to {repo!r} must be asked for on its page, then log in with `hf auth login`",
        errors.RepositoryNotFoundError: f"the Hub knows no repository {repo!r}, or it is private "
        "(log in with `hf auth login`)",
        errors.RevisionNotFoundError: f"the repository has no revision {revision!r}",
        errors.EntryNotFoundError: f"the repository has no file {file!r}",
    }
    try:
        path = hf_hub_download(repo, file, revision=revision, local_files_only=offline(), library_name="hear_byols")
    except errors.LocalEntryNotFoundError as error:
        if offline():
            reason = "is not in the Hub's cache and the environment says offline; download it once online"
            raise WeightsNotFoundError(f"{spec} {reason}") from error
        reason = f"is not cached and the Hub could not be reached ({root_cause(error)})"
        raise DownloadError(f"{spec} {reason}") from presentable(error)
    except tuple(absent) as error:
        reason = next(text for kind, text in absent.items() if isinstance(error, kind))
        raise WeightsNotFoundError(f"{spec}: {reason}") from error
    except errors.HFValidationError as error:
        raise OptionError(f"{spec}: {root_cause(error)}") from error
    except Exception as error:  # the client's transport has its own errors, of another library in each major version
        reason = f"could not be fetched ({root_cause(error)}); nothing was kept, try again"
        raise DownloadError(f"{spec} {reason}") from presentable(error)
    return _verified_hub_file(Path(path), spec, (match["sha256"] or "").lower())


def _verified_hub_file(path: Path, spec: str, sha256: str) -> Path:
    """Check a file of the Hub's cache against the given digest, and against the name the cache files it under.

    A link that leads out of the repository's folder is neither followed nor touched.
    """
    folder = next((parent.parent for parent in path.parents if parent.name == "snapshots"), path.parent)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(
            f"{spec}: {path} leads out of the Hub's cache, to {path.resolve()}, and is not loaded; remove the link and "
            "try again, or load the file by its own path"
        )
    digest, blob = file_digest(path), path.resolve()
    # The cache calls a file by its sha256, by its git blob id, or by whatever a mirror sends.
    is_damaged = re.fullmatch("[0-9a-f]{64}", blob.name) and blob.name != digest
    if re.fullmatch("[0-9a-f]{40}", blob.name):
        is_damaged = blob.name not in (git_blob_id(blob), file_digest(blob, "sha1"))
    if is_damaged:
        blob.unlink()
        path.unlink(missing_ok=True)  # the snapshot's link to it
        raise DownloadError(
            f"{spec}: the content, with sha256 {digest}, is not what the Hub announced; it was removed from the Hub's "
            "cache, try again"
        )
    if sha256 and digest != sha256:
        raise DownloadError(f"{spec}: the file's sha256 is {digest}; check the digest and the revision")
    return path


def root_cause(error: BaseException) -> str:
    """First line of what an error ultimately comes from, without credentials."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = redacted(next((line.strip() for line in str(error).splitlines() if line.strip()), ""))
    return line if line and isinstance(error, OSError) else f"{type(error).__name__}: {line}".rstrip(": ")


def presentable(error: BaseException) -> BaseException | None:
    """An error to raise another from; None if its traceback would show credentials."""
    link: BaseException | None = error
    while link is not None:
        if redacted(str(link)) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error
