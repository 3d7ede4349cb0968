"""Run the core's tests where no extra is installed: proof that the core needs nothing but its own requirements.

Run as a script (``python tests/lean.py [pytest's arguments]``) where the package, pytest and hypothesis are installed.
Tests see the installed package, not this checkout. Tests of the extras skip themselves; those of the core must pass.
"""

import shutil
import sys
from collections import Counter
from importlib import metadata, util
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
# Whatever an extra brings. None of it may be importable here.
OF_EXTRAS = ["torchaudio", "sklearn", "scipy", "pandas", "pyarrow", "opensmile", "lightning", "pytorch_lightning"]
OF_EXTRAS += ["tensorflow", "tensorboard", "matplotlib", "onnx", "onnxruntime", "onnxscript", "ray"]
# Of extras as a whole, or about environments other than this one.
LEFT_OUT = ["kits", "training", "evaluation", "analysis", "answers", "test_packaging.py", "test_pretraining_audio.py"]
CORE = [
    "test_audio.py",
    "test_checkpoint.py",
    "test_cli.py",
    "test_extract.py",
    "test_framing.py",
    "test_frontend.py",
    "test_hear_contract.py",
    "test_inputs.py",
    "test_invariance.py",
    "test_memory.py",
    "test_streaming.py",
    "test_weights.py",
]


def main(arguments: list[str]) -> int:
    """Return pytest's exit status, or 1 if the environment is not lean or a file of the core ran no test."""
    present = [name for name in OF_EXTRAS if util.find_spec(name)]
    if present:
        print(f"this environment is not lean: {', '.join(present)} can be imported")
        return 1
    import hear_byols
    from hear_byols.weights.locate import cache_dir

    if Path(hear_byols.__file__).resolve().parents[1] == TESTS.parent:
        print(f"not the installed package: {hear_byols.__file__}")
        return 1
    cache_dir().mkdir(parents=True, exist_ok=True)
    for path in (TESTS.parent / "checkpoints").glob("*_byols.*"):  # which the wheel has not
        shutil.copy2(path, cache_dir())
    print(f"torch {metadata.version('torch')}, and none of {', '.join(OF_EXTRAS)}")
    passed: Counter[str] = Counter()  # tests by file

    class Count:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.when == "call" and report.passed:
                passed[Path(report.fspath).name] += 1

    ignored = [f"--ignore={TESTS / name}" for name in LEFT_OUT]
    status = pytest.main([str(TESTS), *ignored, *arguments], plugins=[Count()])
    idle = [name for name in CORE if not passed[name]]
    if idle and status == 0:
        print(f"tests of the core that did not run here: {', '.join(idle)}")
        return 1
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
