"""Package metadata. Tool settings stand in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "hear_byols/__init__.py").read_text(), re.MULTILINE)[1]

SKLEARN = ["scikit-learn>=1.3"]
PARQUET = ["pyarrow>=14"]
FORMATS = ["av>=12"]
OPENSMILE = ["opensmile>=2.5"]
TRAIN = ["lightning>=2.2", "filelock>=3.12", "tensorboard>=2.14", "matplotlib>=3.8"]
TRAIN += ['tomli>=2; python_version < "3.11"']
SED = ["sed_eval>=0.2.1", "sed_scores_eval>=0.0.4", "mir_eval>=0.7", "setuptools<81"]  # sed_eval needs pkg_resources
EVAL = [*SKLEARN, "scipy>=1.10", "matplotlib>=3.8", *SED]
ANALYSIS = ["matplotlib>=3.8", *SKLEARN]
MAP = [*ANALYSIS, "umap-learn>=0.5.5"]
CLASSIFY = [*ANALYSIS, "scipy>=1.10"]
SEARCH = ["usearch>=2.9"]
ONNX = ["torch>=2.8", "onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.5"]
RAY = ["ray[data]>=2.10", *PARQUET]
TEACHERS = ["onnx>=1.16", "onnxruntime>=1.18", "tflite>=2.10"]  # to read published files, once
# What people with recordings use, beside training and the benchmark.
USED = [*CLASSIFY, *MAP, *SEARCH, *PARQUET, *FORMATS, *ONNX]
TESTED = [*TRAIN, *EVAL, *ANALYSIS, *CLASSIFY, *SEARCH, *PARQUET, *FORMATS, *OPENSMILE, *ONNX, *RAY, *TEACHERS]
ECOSYSTEM = ["transformers>=4.47", "datasets>=3.0", "mteb>=2.26"]  # whose own checks the adapters pass
TEST = [*TESTED, *ECOSYSTEM, "pytest>=7.4", "pytest-xdist>=3.5", "hypothesis>=6.90", "psutil>=5.9"]
TEST += ["mido>=1.3", "babel>=2.12", "build>=1.2", "twine>=6.1", "check-jsonschema>=0.29"]
DEV = [*TEST, *MAP, "ruff>=0.6", "pyright>=1.1.380"]

setup(
    name="hear_byols",
    version=VERSION,
    description="Small, fast, trustworthy audio embeddings: BYOL-S with the HEAR API",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="MIT AND CC-BY-4.0",  # the code, and the weights in checkpoints/
    license_files=["LICENSE", "NOTICE"],
    author="The hear_byols authors",
    python_requires=">=3.10",
    packages=[*find_packages(include=["hear_byols", "hear_byols.*"]), "hear_byols.checkpoints"],
    package_dir={"hear_byols.checkpoints": "checkpoints"},
    package_data={
        "hear_byols": ["py.typed"],
        "hear_byols.answers": ["*.html"],
        "hear_byols.evaluation": ["*.csv"],
        "hear_byols.checkpoints": ["*_hybrid.*", "*.md", "*.csv"],  # the sdist holds the others too
    },
    include_package_data=False,
    install_requires=[
        "torch>=2.4",
        "numpy>=1.24",
        "huggingface_hub>=0.25",
        "safetensors>=0.4",
        "soundfile>=0.12.1",
        "soxr>=0.3.7",
        "tqdm>=4.64",
    ],
    extras_require={
        "train": TRAIN,
        "eval": EVAL,
        "torchaudio": ["torchaudio>=2.4"],  # compiled for one release of torch each; "tasks resample" does without
        "analysis": ANALYSIS,
        "map": MAP,
        "umap": MAP,
        "classify": CLASSIFY,
        "search": SEARCH,
        "onnx": ONNX,
        "ray": RAY,
        "teachers": TEACHERS,
        "opensmile": OPENSMILE,
        "sklearn": SKLEARN,
        "parquet": PARQUET,
        "formats": FORMATS,
        "test": TEST,
        "dev": sorted(set(DEV)),
        "all": sorted(set(USED)),
    },
    entry_points={"console_scripts": ["hear-byols = hear_byols.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Operating System :: OS Independent",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
