"""What users install: contents of wheel and sdist, their metadata, and the installed package far from this checkout."""

import functools
import json
import re
import shutil
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace as Built

import pytest
from checkout import ROOT, copy_checkout, run
from packaging.requirements import Requirement

import hear_byols
from hear_byols import find_record

CORE = {"torch", "numpy", "huggingface_hub", "safetensors", "soundfile", "soxr", "tqdm"}
EXTRAS = {"train", "eval", "onnx", "opensmile", "classify", "map", "search", "torchaudio", "test", "dev", "all"}
# Optional or slow to import: nothing of these may come along with the core.
FOREIGN = {"torchaudio", "pandas", "sklearn", "scipy", "tensorflow", "lightning", "pytorch_lightning", "pyarrow"}
FOREIGN |= {"opensmile", "matplotlib", "onnx", "onnxruntime", "huggingface_hub", "requests", "httpx", "httpx2"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build everything with the newest setuptools, in clean folders.

    ``checkout`` is a clean copy, ``wheel`` what ``pip install .`` makes of it; ``sdist`` and ``wheel_of_sdist`` are
    made as for a release, and ``unpacked`` is the sdist's content.
    """
    pytest.importorskip("build")
    home = tmp_path_factory.mktemp("packaging")
    checkout, source = copy_checkout(home / "checkout"), copy_checkout(home / "source")
    release = run([sys.executable, "-m", "build", "-o", home / "dist", source], cwd=home)
    assert "deprecat" not in (release.stdout + release.stderr).lower()
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", home, checkout], cwd=home)
    files = (home.glob("*.whl"), (home / "dist").glob("*.tar.gz"), (home / "dist").glob("*.whl"))
    (wheel,), (sdist,), (wheel_of_sdist,) = files
    with tarfile.open(sdist) as archive:
        archive.extractall(home / "sdist", filter="data")
    (unpacked,) = (home / "sdist").iterdir()
    return Built(checkout=checkout, sdist=sdist, unpacked=unpacked, wheel=wheel, wheel_of_sdist=wheel_of_sdist)


@functools.cache
def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def distribution(built: Built) -> metadata.Distribution:
    """What pip would know of the wheel."""
    (found,) = metadata.distributions(path=[str(built.wheel)])
    return found


def requirements(built: Built, extra: str = "") -> dict[str, str]:
    """Name -> version specifier of the core's requirements, or of an extra's own."""
    found = {}
    for requirement in map(Requirement, distribution(built).requires):
        own = re.search(r'extra == "(.+?)"', str(requirement.marker))
        if (own[1] if own else "") == extra:
            found[requirement.name.replace("-", "_")] = str(requirement.specifier)
    return found


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    files = contents(built.wheel)
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == {"hear_byols"}
    sources = {str(path.relative_to(built.checkout)) for path in (built.checkout / "hear_byols").rglob("*.py")}
    assert {name for name in files if name.endswith(".py")} == sources
    assert "hear_byols/py.typed" in files
    assert "hear_byols/answers/map_page.html" in files
    theirs = contents(built.wheel_of_sdist)
    assert [name for name in {**files, **theirs} if files.get(name) != theirs.get(name)] == []


def test_the_weights_travel(built: Built) -> None:
    """All in the sdist; in the wheel those that everybody needs, so that it stays small."""
    files = {path.name: path.read_bytes() for path in (built.checkout / "checkpoints").iterdir()}
    known = {record.file for record in map(find_record, hear_byols.list_models()) if record.source == "shipped"}
    assert {file for file in files if "_hybrid" in file} == known
    wheel = contents(built.wheel)
    inside = {name.rpartition("/")[2] for name in wheel if name.startswith("hear_byols/checkpoints/")}
    assert inside == {name for name in files if "_byols" not in name}
    assert all(wheel[f"hear_byols/checkpoints/{name}"] == files[name] for name in inside)
    assert built.wheel.stat().st_size <= 25_000_000
    assert all((built.unpacked / "checkpoints" / name).read_bytes() == content for name, content in files.items())


def test_the_sdist_holds_all_that_is_needed_to_work_on_it_and_passes_its_own_tests(built: Built) -> None:
    """Some of them, of the core."""
    files = ["README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in", "setup.py", "pyproject.toml", "Containerfile"]
    for folder in ("hear_byols", "checkpoints", ".github", "tests", "docs", "examples", "benchmarks"):
        files += [path.relative_to(built.checkout) for path in (built.checkout / folder).rglob("*")]
    assert [file for file in files if not (built.unpacked / file).exists()] == []
    tests = "tests/test_framing.py", "tests/test_frontend.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    summary = run(command, cwd=built.unpacked).stdout.splitlines()[-1]
    assert re.search(r"[1-9]\d* passed", summary)


def test_requirements_are_few_and_have_lower_bounds_only(built: Built) -> None:
    core = requirements(built)
    assert set(core) == CORE
    assert all(re.fullmatch(r">=[\d.]+", specifier) for specifier in core.values()), core
    fields = distribution(built).metadata
    assert fields["Requires-Python"] == ">=3.10"
    extras = set(fields.get_all("Provides-Extra"))
    assert extras >= EXTRAS
    for extra in extras:  # lower bounds only, and no torch of one's own choice but for the exporter's lowest
        for name, specifier in requirements(built, extra).items():
            if name != "setuptools":  # sed_eval imports what later ones have not
                assert re.fullmatch(r">=[\d.]+", specifier), (extra, name, specifier)
            assert name != "torchaudio" or extra == "torchaudio"
    assert not {"ray", "lightning", "tensorboard", "opensmile", "sed_eval"} & set(requirements(built, "all"))
    everything = {name for extra in extras - {"torchaudio", "dev"} for name in requirements(built, extra)}
    assert set(requirements(built, "dev")) >= everything


def test_modules_that_moved_are_found_and_say_where_they_are() -> None:
    from hear_byols.weights import read_checkpoint, shipped_dir

    assert (shipped_dir() / "cvt_byols.pth").is_file()
    with pytest.warns(DeprecationWarning, match=r"hear_byols\.checkpoint has moved to hear_byols\.weights\.checkpoint"):
        from hear_byols.checkpoint import read_checkpoint as former  # pyright: ignore[reportMissingImports]
    assert former is read_checkpoint
    for name in ("extract.embed_files", "zoo.list_models", "memory.peak_memory", "onnx_export.export_onnx"):
        module, attribute = name.split(".")
        with pytest.warns(DeprecationWarning, match="has moved to"):
            assert callable(getattr(getattr(hear_byols, module), attribute))
    with pytest.raises(ImportError), pytest.warns(DeprecationWarning, match="moved"):
        from hear_byols.extract import nothing  # noqa: F401  # pyright: ignore[reportMissingImports]


def test_every_collection_of_the_models_page_stands_in_the_notice() -> None:
    page, notice = (ROOT / "docs" / "models.md").read_text(), (ROOT / "NOTICE").read_text()
    table = page[page.index("| source | hours |") :].split("\n\n")[0]
    sources = re.findall(r"^\| (\w+) \|", table, re.MULTILINE)[1:]
    assert len(sources) > 5
    assert not [source for source in sources if source not in notice]


def test_licence_and_command_and_what_twine_checks(built: Built) -> None:
    wheel = distribution(built)
    assert wheel.metadata["License-Expression"] == "MIT AND CC-BY-4.0"
    assert wheel.metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert {"LICENSE", "NOTICE"} <= {path.name for path in wheel.files if ".dist-info" in str(path)}
    assert wheel.entry_points["hear-byols"].value == "hear_byols.cli.main:main"
    pytest.importorskip("twine")
    run([sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel], cwd=built.checkout)


@pytest.fixture(scope="session")
def site(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed into a folder of its own."""
    site = tmp_path_factory.mktemp("site")
    run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, built.wheel], cwd=site)
    return site


def test_the_other_weights_say_where_they_are_and_load_from_there(site: Path, tmp_path: Path) -> None:
    code = "import hear_byols; print(hear_byols.load_model('cnn_byols').scene_embedding_size)"
    home = {"HEAR_BYOLS_HOME": str(tmp_path), "PYTHONPATH": str(site)}
    with pytest.raises(AssertionError, match=f"WeightsNotFoundError: cnn_byols.* put it into {tmp_path}"):
        run([sys.executable, "-c", code], tmp_path, **home)
    shutil.copy2(ROOT / "checkpoints" / find_record("cnn_byols").file, tmp_path)
    assert int(run([sys.executable, "-c", code], tmp_path, **home).stdout) > 0
    command = [sys.executable, site / "bin" / "hear-byols", "--version"]
    assert run(command, tmp_path, **home).stdout.startswith("hear_byols ")


WATCHED = """
import json, sys
events = []
sys.addaudithook(lambda name, _: events.append(name) if name.startswith("socket.") else None)
import hear_byols
lazy = "torch" not in sys.modules
model = hear_byols.load_model(%r)
import torch
vectors = hear_byols.get_timestamp_embeddings(torch.zeros(1, 1600), model)[0]
hear_byols.list_models()
modules = sorted({name.split(".")[0] for name in sys.modules})
shape = [*vectors.shape] if torch.isfinite(vectors).all() else None
print(json.dumps(dict(file=hear_byols.__file__, shape=shape, sockets=events, lazy=lazy, modules=modules)))
"""


@pytest.mark.parametrize(("name", "size"), [("", 512), ("cnn_hybrid.pth", 512), ("random_clstm", 1024)])
def test_embedding_works_anywhere_and_is_quiet(site: Path, tmp_path: Path, name: str, size: int) -> None:
    """Nothing is printed (JSON is all of standard output), nothing is connected."""
    done = run([sys.executable, "-W", "error", "-c", WATCHED % name], tmp_path, PYTHONPATH=str(site))
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    assert Path(seen["file"]) == site / "hear_byols" / "__init__.py"
    assert seen["shape"] == [1, 3, size]
    assert seen["sockets"] == []
    assert seen["lazy"], "importing hear_byols alone must not import torch"
    assert not FOREIGN & set(seen["modules"])
