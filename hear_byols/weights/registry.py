"""The weight records: one frozen entry a named model, with everything needed to get and to trust its file."""

import fnmatch

from hear_byols.weights.records import WeightRecord
from hear_byols.weights.teachers import TEACHERS

DEFAULT_MODEL = "cnn_hybrid"
ORIGINAL_SOURCE = (
    "https://raw.githubusercontent.com/GasserElbanna/serab-byols/115fd81235d2c14ddab4bcf55ed79250711c2a2c/checkpoints/"
)
_SHA256 = {  # of the shipped files
    "cnn_hybrid": "d341e69d188846f0008c6f117f9932fe98d8888ee7b6952a4c5c73024f40595d",
    "cnn_byols": "ca95f15c8a60ea53d5b77fbb982634eaba7c505b1c06473a3bf2ead6dc8390a7",
    "cvt_hybrid": "28b97c43c569b7ccc3a4c5a4e7ef5dfa9a53500e1d3367edf9c1ac386bae509f",
    "cvt_byols": "137b40ddb4f32e69cbbabff66c611b8ecd2626b324994ddc9e688d4c267fa11b",
}
PAPER = "Elbanna et al. 2022, BYOL-S: Learning Self-supervised Speech Representations by Bootstrapping"


def _original(name: str, encoder: str, file: str, git_blob: str, row: str) -> WeightRecord:
    return WeightRecord(
        name=name,
        encoder=encoder,
        embedding_size=2048,
        source="url",
        file=file,
        location=ORIGINAL_SOURCE + file,
        git_blob=git_blob,
        licence="MIT, as stated by the publishing repository",
        commercial="ask" if "hybrid" in name else "yes",  # the hybrid learnt from openSMILE features
        data="AudioSet, speech subset, 2190 h (paper, Table 4)",
        reference=f"{PAPER}, row {row}",
    )


def _shipped(name: str, encoder: str, embedding_size: int, size: int, crops: str, hours: float) -> WeightRecord:
    taught = name.endswith("_hybrid")
    return WeightRecord(
        name=name,
        encoder=encoder,
        embedding_size=embedding_size,
        source="shipped" if taught else "checkout",
        file=f"{name}.pth",
        sha256=_SHA256[name],
        size=size,
        licence="CC BY 4.0",
        commercial="yes",
        data=f"{hours} h of freely licensed and made audio, {crops} crops" + "; five openly licensed teachers" * taught,
        reference=f"{PAPER}, " + ("section 4.4: learnable extractors" if taught else "BYOL-S, section 3"),
    )


_RECORDS = (
    _shipped("cnn_hybrid", "cnn", 512, 12758674, "1,792,000", hours=11.4),
    _shipped("cnn_byols", "cnn", 3584, 10657560, "38,400", hours=11.4),
    _shipped("cvt_hybrid", "cvt", 512, 12168289, "4,270,080", hours=13.1),
    _shipped("cvt_byols", "cvt", 5120, 10064487, "38,400", hours=11.4),
    _original(
        "original_cvt_hybrid",
        "cvt",
        "cvt_s1-d1-e64_s2-d1-e256_s3-d1-e512_BYOLAs64x96-osandbyolaloss6373-e100-bs256-lr0003-rs42.pth",
        "74a0ba6607277e6afc57c444752735e974de0f80",
        "Hybrid BYOL-S/CvT",
    ),
    _original(
        "original_cnn_byols",
        "cnn",
        "default2048_BYOLAs64x96-2105311814-e100-bs256-lr0003-rs42.pth",
        "04fb26805f52db1af541b2186d1fc1a9ce86e4c7",
        "BYOL-S",
    ),
    _original(
        "original_resnetish34_byols",
        "resnetish34",
        "resnetish34_BYOLAs64x96-2105271915-e100-bs256-lr0003-rs42.pth",
        "5f5fc2d07aff90728c3d0e5b90051fe24aa55464",
        "BYOL-S/ResNetish-34",
    ),
    *(
        WeightRecord(name=f"random_{encoder}", encoder=encoder, embedding_size=size, source="random", data="none")
        for encoder, size in (("cnn", 2048), ("resnetish34", 2048), ("clstm", 1024), ("cvt", 2048))
    ),
    WeightRecord(
        name="opensmile",
        encoder="",
        embedding_size=6373,
        source="opensmile",
        licence=(
            "Research, private and educational use only (audEERING Research License Agreement); commercial use of "
            "openSMILE, or of features or models made with it, needs a licence from audEERING GmbH"
        ),
        commercial="ask",
        data="none",
        reference=f"{PAPER}, row openSMILE (OS) only",
    ),
)
_BY_NAME = {record.name: record for record in _RECORDS}


def list_models(pattern: str = "*") -> list[str]:
    """Names that ``load_model`` knows besides the teachers', in alphabetical order.

    Args:
        pattern: shell-style wildcard, for example ``"original_*"``.
    """
    return sorted(name for name in _BY_NAME if fnmatch.fnmatchcase(name, pattern))


def known_record(name: str) -> WeightRecord:
    """The record of a name of :func:`list_models`, or of a teacher.

    Raises:
        KeyError: there is none of that name.
    """
    return _BY_NAME[name] if name in _BY_NAME else TEACHERS[name]


def find_record(name: str) -> WeightRecord | None:
    """Look a weight record up.

    Args:
        name: of a model or a teacher, or the name of a model's shipped or cached file.

    Returns:
        The record, or None if there is none.
    """
    by_file = {record.file: record for record in _BY_NAME.values() if record.file}
    return _BY_NAME.get(name) or TEACHERS.get(name) or by_file.get(name)
