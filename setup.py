"""Package metadata. Tool settings stand in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "hear_byols/__init__.py").read_text(), re.MULTILINE)[1]

# torchaudio is compiled for exactly one torch; this pair is its newest.
TORCHAUDIO = ["torch==2.11.0", "torchaudio==2.11.0"]
SKLEARN = ["scikit-learn>=1.3"]
PARQUET = ["pyarrow>=14"]
FORMATS = ["av>=12"]
OPENSMILE = ["opensmile>=2.5"]
TRAIN = ["lightning>=2.2", "filelock>=3.12", "tensorboard>=2.14", "matplotlib>=3.8"]
TRAIN += ['tomli>=2; python_version < "3.11"']
EVAL = [*TORCHAUDIO, *SKLEARN, "scipy>=1.10", "matplotlib>=3.8", "sed_eval>=0.2.1", "mir_eval>=0.7"]
ANALYSIS = ["matplotlib>=3.8", *SKLEARN]
CLASSIFY = [*SKLEARN, "matplotlib>=3.8"]
UMAP = [*ANALYSIS, "umap-learn>=0.5.5"]
ONNX = ["torch>=2.8", "onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.5"]
RAY = ["ray[data]>=2.10", *PARQUET]
TESTED = [*TRAIN, *EVAL, *ANALYSIS, *PARQUET, *FORMATS, *OPENSMILE, *ONNX, *RAY]
TEST = [*TESTED, "pytest>=7.4", "hypothesis>=6.90", "psutil>=5.9", "mido>=1.3"]

setup(
    name="hear_byols",
    version=VERSION,
    description="Small, fast, trustworthy audio embeddings: BYOL-S with the HEAR API",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=[*find_packages(include=["hear_byols", "hear_byols.*"]), "hear_byols.checkpoints"],
    package_dir={"hear_byols.checkpoints": "checkpoints"},
    package_data={
        "hear_byols": ["py.typed"],
        "hear_byols.analysis": ["*.html"],
        "hear_byols.evaluation": ["*.csv"],
        "hear_byols.checkpoints": ["*.pth", "*.safetensors", "*.md"],
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
        "analysis": ANALYSIS,
        "umap": UMAP,
        "onnx": ONNX,
        "ray": RAY,
        "opensmile": OPENSMILE,
        "sklearn": SKLEARN,
        "classify": CLASSIFY,
        "parquet": PARQUET,
        "formats": FORMATS,
        "test": TEST,
        "all": sorted({*TRAIN, *EVAL, *ANALYSIS, *UMAP, *ONNX, *RAY, *OPENSMILE, *SKLEARN, *PARQUET, *FORMATS}),
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
