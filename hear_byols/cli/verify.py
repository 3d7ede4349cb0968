"""``hear-byols verify``: whether the weights on this machine are what they should be, and work."""

import argparse

from hear_byols._util.files import file_digest
from hear_byols.cli.options import add_command
from hear_byols.errors import HearByolsError, WeightsNotFoundError
from hear_byols.weights.records import WeightRecord
from hear_byols.weights.registry import find_record, known_record, list_models
from hear_byols.weights.teachers import list_teachers

_DESCRIPTION = """\
Compare shipped and cached weights with their records (size and digest), load them and embed a second of noise. Nothing
is downloaded.

exit status: 0 all is well; 1 weights are faulty, or asked for by name and not on this machine; 2 no such name"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "verify", "check the weights on this machine", run, _DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all on this machine")


def run(args: argparse.Namespace) -> int:
    from hear_byols.weights.locate import local_file

    found = {name: find_record(name) for name in args.names}
    unknown = [name for name, record in found.items() if record is None]
    if unknown:
        known = ", ".join([*list_models(), *list_teachers()])
        raise WeightsNotFoundError(f"no model is called {unknown[0]!r}; known: {known}")
    records = [record for record in found.values() if record]
    if not records:
        models, teachers = (map(known_record, names) for names in (list_models(), list_teachers()))
        records = [record for record in models if record.file or record.location]
        records += [record for record in teachers if local_file(record)]
    verdicts = []
    for record in records:
        verdict, message = _check(record, asked_for=bool(args.names))
        verdicts.append(verdict)
        print(f"{verdict:<8}{record.name}: {message}", flush=True)
    return 1 if "FAULT" in verdicts else 0


def _check(record: WeightRecord, asked_for: bool) -> tuple[str, str]:
    """A verdict ("ok", "absent" or "FAULT") and its reason: what the file is, once a model of it has embedded noise."""
    import torch

    from hear_byols.hear import load_model
    from hear_byols.weights.locate import local_file, locate

    if (record.file or record.location) and local_file(record) is None:
        if record.source == "shipped":
            return "FAULT", f"{record.file} is missing from the installation; reinstall hear_byols"
        return "FAULT" if asked_for else "absent", "not on this machine"
    try:
        path = locate(record.name).path  # compares with the record
        model = load_model(record.name)
        noise = 0.1 * torch.randn(1, model.sample_rate, generator=torch.Generator().manual_seed(0))
        vector = model.scene_embeddings(noise)
    except HearByolsError as error:
        return "FAULT", str(error)
    if not bool(torch.isfinite(vector).all()):
        return "FAULT", f"{record.name}: the embedding of a second of noise is not finite"
    if path is None:
        return "ok", "made here, no file"
    is_pinned = record.sha256 or record.git_blob or record.source == "teacher"
    pinned = "as recorded" if is_pinned else "no digest recorded"
    return "ok", f"{path} ({path.stat().st_size} bytes, sha256 {file_digest(path)}, {pinned})"
