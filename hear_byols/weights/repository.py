"""A model repository, in a folder or on the Hub: the checkpoint as ``model.safetensors``, and what describes it.

Beside a card there are the files by which ``transformers`` finds this package (``trust_remote_code``). They hold no
code but an import, and nothing that a vector depends on: that is in the checkpoint alone.
"""

import json
import shutil
from pathlib import Path

from hear_byols.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from hear_byols.weights.model_card import model_card

WEIGHTS_FILE = "model.safetensors"
_CODE = "hear_byols_auto"
_CODE_TEXT = '''"""Leads transformers to hear_byols, which it needs: pip install hear_byols."""

from hear_byols.ecosystem.transformers import HearByolsConfig, HearByolsFeatureExtractor, HearByolsModel  # noqa: F401
'''


def write_repository(folder: Path, checkpoint: Path | Checkpoint, repo: str, revision: str = "main") -> list[Path]:
    """Write a repository's files into a folder that exists, ``model.safetensors`` first.

    A checkpoint is a file, of which ``.safetensors`` is copied as it is; or the content of one. Weights are stored in
    half precision where that loses nothing. The card calls the repository ``repo``: ``owner/name``, or a path.
    """
    weights = folder / WEIGHTS_FILE
    if isinstance(checkpoint, Path) and checkpoint.suffix == weights.suffix:
        shutil.copyfile(checkpoint, weights)
    else:
        content = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
        save_checkpoint(weights, content.config, content.state_dict, content.provenance, half=content.fits_half)
    content = read_checkpoint(weights)
    texts = {"README.md": model_card(content, weights, repo, revision), f"{_CODE}.py": _CODE_TEXT}
    for name, value in _settings(content).items():
        texts[name] = json.dumps(value, indent=2) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [weights, *(folder / name for name in texts)]


def _settings(content: Checkpoint) -> dict[str, dict[str, object]]:
    """What ``transformers`` reads first."""
    rate, extractor = content.config.frontend.sample_rate, "HearByolsFeatureExtractor"
    auto_map = {"AutoConfig": f"{_CODE}.HearByolsConfig", "AutoModel": f"{_CODE}.HearByolsModel"}
    model = {"model_type": "hear_byols", "architectures": ["HearByolsModel"], "auto_map": auto_map}
    model |= {"hidden_size": content.embedding_size, "sampling_rate": rate}
    front = {"feature_extractor_type": extractor, "auto_map": {"AutoFeatureExtractor": f"{_CODE}.{extractor}"}}
    front |= {"feature_size": 1, "sampling_rate": rate, "padding_value": 0.0}
    return {"config.json": model, "preprocessor_config.json": front}
