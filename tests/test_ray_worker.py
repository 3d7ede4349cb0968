"""What a worker of the engine ray does, without a cluster: its parts are those of any other run."""

import json
from pathlib import Path

import pytest
from extraction import MODEL, contents, recorded, write_corpus

from hear_byols import load_model
from hear_byols.extraction.extract import embed_to_folder, fill, parameters_digest, run_settings
from hear_byols.extraction.files import AudioFile, collect
from hear_byols.extraction.formats import find_format
from hear_byols.extraction.output import open_output
from hear_byols.extraction.ray import _record
from hear_byols.extraction.ray_worker import Worker, WorkerTask

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_workers_parts_are_adopted_with_their_digests_and_its_failures_told(tmp_path):
    names = write_corpus(tmp_path / "in", 3)
    (tmp_path / "in" / "bad.wav").write_text("no audio")
    files = [*collect([tmp_path / "in"]), AudioFile("locked", Path("locked"), "the folder cannot be searched")]
    model, output = load_model(MODEL), tmp_path / "out"
    settings = run_settings(model, MODEL, "parquet", False, "ray: cpu", {})
    worker = Worker(WorkerTask(MODEL, {}, parameters_digest(model), False, str(output)), "cpu")

    def embed(pending, folder, bar):
        shard = json.dumps([[file.name, str(file.path), file.error] for file in pending])
        results = (json.loads(text) for text in worker({"shard": [shard]})["result"])
        return _record(results, folder, lambda n: None)

    with open_output(output, find_format("parquet"), settings, overwrite=False) as folder:
        report = fill(folder, files, embed, progress=False)
    assert (report.n_embedded, sorted(recorded(output))) == (3, names)
    assert [failure.name for failure in report.failures] == ["bad.wav", "locked"]
    embed_to_folder([tmp_path / "in"], tmp_path / "plain", model=MODEL, format="parquet", device="cpu")
    assert contents(output) == contents(tmp_path / "plain")
    again = embed_to_folder([tmp_path / "in"], output, model=MODEL, format="parquet", device="cpu")
    assert (again.n_embedded, again.n_present) == (0, 3)
