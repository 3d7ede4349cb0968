"""What a release is made with: one version everywhere, workflows of a public forge, a container's file."""

import itertools
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import yaml
from checkout import ROOT, run

import hear_byols

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
HEADINGS = re.findall(r"^## (\d+)\.(\d+)\.(\d+) - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
VERSIONS = [tuple(map(int, heading)) for heading in HEADINGS]  # the newest first


def test_one_version_and_licence_everywhere():
    """The changelog's newest release, the package's and the citation's; licences also in the notice."""
    assert len(VERSIONS) == len(re.findall(r"^## \d", CHANGELOG, re.MULTILINE))
    assert hear_byols.__version__ == ".".join(HEADINGS[0])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["cff-version"]) == (hear_byols.__version__, "1.2.0")
    (expression,) = re.findall(r'license_expression="(.+?)"', (ROOT / "setup.py").read_text())
    assert citation["license"] == expression.split(" AND ")
    notice = (ROOT / "NOTICE").read_text()
    assert all(f"SPDX: {name}" in notice for name in expression.split(" AND ")[1:])


# Mean and greatest component of what the shipped files give for a chirp, by the major version that first gave it.
VECTORS = {5: {"cnn_hybrid": (-0.00437057, 9.62626), "cvt_hybrid": (-0.0371069, 6.17596)}}


def test_versions_follow_the_changelogs_own_rule():
    """Semantic versioning, in which other vectors of a shipped file are a new major version."""
    for new, (major, minor, patch) in itertools.pairwise(VERSIONS):
        assert new in ((major + 1, 0, 0), (major, minor + 1, 0), (major, minor, patch + 1))
    time = np.arange(16000) / 16000
    chirp = (0.3 * np.sin(2 * np.pi * (200 + 1500 * time) * time)).astype(np.float32)
    shipped = [name for name in hear_byols.list_models() if hear_byols.find_record(name).source == "shipped"]
    found = {}
    for name in shipped:
        vector = hear_byols.load_model(name).scene_embeddings(chirp[None])[0]
        found[name] = pytest.approx((float(vector.mean()), float(vector.max())), rel=1e-3, abs=1e-4)
    assert VECTORS[VERSIONS[0][0]] == found, "other vectors: raise the major version, and put theirs here"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_what_the_forge_takes_and_run_what_exists(path):
    """Scripts are sound shell, files they name are here, and only the publishing job may write anything."""
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == ({"id-token": "write"} if name == "publish" else {})
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[\w./]+", step.get("uses", "a/b@c"))
            script = step.get("run", "")
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
            for file in re.findall(r"(?:^|\s)((?:\.ci|tests|hear_byols)/[\w./]+|[A-Z]+\.\w+)", script):
                assert (ROOT / file).is_file(), file
    assert {path.stem for path in WORKFLOWS} == {"test", "release"}
    pytest.importorskip("check_jsonschema")
    run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path], cwd=ROOT)


def test_the_release_workflow_compares_versions(tmp_path):
    """Its own script, on this checkout: this version's tag passes, another's does not."""
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["build"]["steps"]
    (script,) = (step["run"] for step in steps if "GITHUB_REF_NAME" in step.get("run", ""))
    run(["bash", "-e", "-c", script], cwd=ROOT, GITHUB_REF_NAME=f"v{hear_byols.__version__}")
    with pytest.raises(AssertionError, match="ended with 1"):
        run(["bash", "-e", "-c", script], cwd=ROOT, GITHUB_REF_NAME="v9.9.9")


def test_the_container_holds_all_that_a_build_needs(tmp_path):
    """What it copies builds the package, and its command starts from that without a network."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert instructions[0][0] == "FROM"
    source = tmp_path / "src"
    for *files, target in (what.split() for name, what in instructions if name == "COPY"):
        for file in files:
            place = tmp_path / target.strip("/") / (file if target.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            run(["cp", "-r", ROOT / file, place], cwd=ROOT)
    (install,) = (what for name, what in instructions if name == "RUN" and "/src" in what)
    extras = re.search(r"/src\[([\w,]+)\]", install)[1].split(",")
    assert all(f'"{extra}":' in (ROOT / "setup.py").read_text() for extra in extras)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    run([*pip, "--target", tmp_path / "site", source], cwd=tmp_path)
    variables = dict(pair.split("=") for name, what in instructions if name == "ENV" for pair in shlex.split(what))
    (entry,) = (yaml.safe_load(what) for name, what in instructions if name == "ENTRYPOINT")
    assert variables["HEAR_BYOLS_OFFLINE"] == "1"
    command = [sys.executable, tmp_path / "site" / "bin" / entry[0], "verify", "cnn_hybrid"]
    assert run(command, tmp_path, PYTHONPATH=str(tmp_path / "site"), **variables).stdout.startswith("ok")
