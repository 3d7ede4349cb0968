"""What is known of weights that have a name: the form of the entries in ``registry`` and ``teachers``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightRecord:
    """A named model.

    Its source is "shipped" (in the package), "checkout" (in the source repository and its archive), "url" (downloaded
    and cached), "random" (untrained, made from a fixed seed; a baseline), "opensmile" (no weights: the features of the
    optional opensmile package) or "teacher" (added by "hear-byols teachers add").
    """

    name: str  # as given to load_model
    encoder: str  # cnn, resnetish34, clstm or cvt; empty for openSMILE and teachers
    embedding_size: int  # of scene and timestamp embeddings
    source: str
    file: str = ""  # its name, shipped or cached
    location: str = ""  # where "url" files come from
    sha256: str = ""  # digest of the file, where known
    size: int | None = None  # of the file in bytes, where known
    git_blob: str = ""  # git blob id of the file (pins content and size), where that is what its publisher gives
    licence: str = ""  # of the weights
    commercial: str = ""  # may a company use them: "yes", "no", "ask" (those they learnt from); empty if untrained
    data: str = ""  # what they were trained on
    reference: str = ""  # paper and table row


@dataclass(frozen=True)
class TeacherFile:
    """A file that a teacher can be made from."""

    path: str  # inside the wheel; or its name where it is published by itself
    size: int  # in bytes
    sha256: str  # of its content


@dataclass(frozen=True, kw_only=True)
class TeacherRecord(WeightRecord):
    """A teacher that is known by name; ``embedding_size`` is that of the teacher's own choice of layers."""

    encoder: str = ""
    source: str = "teacher"
    description: str  # what it is, in a few words
    package: str = ""  # NAME==VERSION of the Python package whose wheel holds the files
    url: str = ""  # where the file is published if it is in no package
    files: tuple[TeacherFile, ...]  # that are published, all of which are needed
    converted: TeacherFile | None = None  # holds the same weights, read out before
    weights: tuple[str, ...]  # digests of the weights that these files give (content_digest)

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", f"teachers/{self.name}.safetensors")
