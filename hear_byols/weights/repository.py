"""A model repository, in a folder or on the Hub: the checkpoint as ``model.safetensors``, and what describes it.

Beside a card, Markdown with the Hub's metadata on top, there are the files by which ``transformers`` finds this package
(``trust_remote_code``). They hold no code but an import, and nothing that a vector depends on: that is in the
checkpoint alone.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hear_byols._util.files import file_digest
from hear_byols.weights.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from hear_byols.weights.locate import is_repo

WEIGHTS_FILE = "model.safetensors"
_CODE = "hear_byols_auto"
_CODE_TEXT = '''"""Leads transformers to hear_byols, which it needs: pip install hear_byols."""

from hear_byols.ecosystem.transformers import HearByolsConfig, HearByolsFeatureExtractor, HearByolsModel  # noqa: F401
'''
# Licences the Hub knows by an identifier of its own; others are "other" with their name.
_HUB_LICENCES = {"mit", "apache-2.0", "bsd-3-clause", "gpl-3.0", "openrail", "unknown", "cc0-1.0", "cc-by-4.0"}
_HUB_LICENCES |= {"cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"}


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
    rate, extractor = content.config.frontend.sample_rate, "HearByolsFeatureExtractor"
    auto_map = {"AutoConfig": f"{_CODE}.HearByolsConfig", "AutoModel": f"{_CODE}.HearByolsModel"}
    model = {"model_type": "hear_byols", "architectures": ["HearByolsModel"], "auto_map": auto_map}
    model |= {"hidden_size": content.embedding_size, "sampling_rate": rate}
    front = {"feature_extractor_type": extractor, "auto_map": {"AutoFeatureExtractor": f"{_CODE}.{extractor}"}}
    front |= {"feature_size": 1, "sampling_rate": rate, "padding_value": 0.0}
    texts = {"README.md": model_card(content, weights, repo, revision), f"{_CODE}.py": _CODE_TEXT}
    texts |= {"config.json": json.dumps(model, indent=2) + "\n"}  # these two transformers reads first
    texts |= {"preprocessor_config.json": json.dumps(front, indent=2) + "\n"}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [weights, *(folder / name for name in texts)]


def model_card(checkpoint: Checkpoint, weights: Path, repo: str, revision: str = "main") -> str:
    """Write a model card, Markdown with a YAML block on top, for the file ``weights`` of a checkpoint.

    It is for a branch of the repository ``owner/name`` on the Hub, or for a folder.
    """
    provenance, config = checkpoint.provenance, checkpoint.config
    encoder, rate, size = config.encoder.name, config.frontend.sample_rate, checkpoint.embedding_size
    n_values, digest = sum(value.numel() for value in checkpoint.state_dict.values()), file_digest(weights)
    notice = f"> {_one_line(provenance['notice'])}\n\n" if provenance.get("notice") else ""
    at = "" if revision == "main" else f"@{revision}"
    others = _bullets({key: value for key, value in provenance.items() if key != "data"})
    return f"""---
{_licence(str(provenance.get("licence") or "unknown"))}
library_name: hear_byols
pipeline_tag: feature-extraction
tags:
- audio
- speech
- audio-embeddings
- self-supervised
- hear
- byol-s
- {encoder}
---
# {_one_line(provenance.get("name") or repo)}

{_one_line(provenance.get("description") or "Audio embeddings in the BYOL-S family.")}

{notice}Encoder `{encoder}`, {n_values / 1e6:.1f} M values. Embeddings of {size} values from mono audio at {rate} Hz, \
normalization `{config.normalization.mode}`.

{_use(repo, revision, f"{weights.name}{at}#sha256={digest}", rate, size)}## File
| file | bytes | sha256 |
|---|---|---|
| {weights.name} | {weights.stat().st_size} | `{digest}` |

{_data(provenance.get("data"))}## Provenance
{"".join(others)}
## Configuration
```json
{json.dumps(config.to_dict(), indent=2)}
```
"""


def _use(repo: str, revision: str, file: str, rate: int, size: int) -> str:
    """Snippets, which run one after the other beside a file ``speech.wav`` and a folder ``recordings``."""
    name, pinned = json.dumps(repo), "" if revision == "main" else f", revision={json.dumps(revision)}"
    exact = f'`hear_byols.load_model("hf://{repo}/{file}")` loads exactly this file.\n\n' if is_repo(repo) else ""
    remote = f"{name}, trust_remote_code=True{pinned}"
    return f"""## Use

```bash
pip install hear_byols
```

```python
import hear_byols

model = hear_byols.from_pretrained({name}{pinned})
vectors = hear_byols.encode(["speech.wav"], model)  # paths, or samples at {rate} Hz; (1, {size})
```

{exact}With transformers, which loads the same:

```python
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained({remote})
transformer = AutoModel.from_pretrained({remote})
audio = hear_byols.load_audio("speech.wav", {rate})
vectors = transformer(**extractor(audio, sampling_rate={rate}, return_tensors="pt")).pooler_output
```

A folder of recordings with datasets:

```python
from glob import glob

from datasets import Dataset

dataset = Dataset.from_dict({{"path": sorted(glob("recordings/*"))}})
dataset = dataset.map(lambda rows: {{"embedding": hear_byols.encode(rows["path"], model)}}, batched=True)
```

`hear_byols.ecosystem` has adapters for X-ARES and mteb.
"""


def _licence(licence: str) -> str:
    """The Hub's entries of a licence; JSON strings are YAML strings."""
    identifier = "-".join(licence.lower().split())
    if identifier in _HUB_LICENCES:
        return f"license: {identifier}"
    return f"license: other\nlicense_name: {json.dumps(_one_line(licence)[:100])}"


def _data(sources: object) -> str:
    """What the weights were trained on: a table where it is a list of sources, as pre-training writes it."""
    if not sources:
        return ""
    if not (isinstance(sources, list) and all(isinstance(source, Mapping) for source in sources)):
        return f"## Data\n{''.join(_bullets({'data': sources}))}\n"
    names = list(dict.fromkeys(name for source in sources for name in source))
    rows = [names, ["---"] * len(names), *([source.get(name, "") for name in names] for source in sources)]
    lines = [[_one_line(text).replace("|", "\\|") for text in row] for row in rows]
    hours = [source.get("hours") for source in sources]
    total = f"{sum(hours):.1f} hours in all.\n\n" if all(isinstance(h, int | float) for h in hours) else ""
    return "".join(["## Data\n", *(f"| {' | '.join(line)} |\n" for line in lines), "\n", total])


def _bullets(content: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {_one_line(key)}:\n"
            yield from _bullets(value, indent + "  ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{indent}- {_one_line(key)}: {_one_line(text) or '-'}\n"


def _one_line(text: object) -> str:
    """Foreign text that cannot end a line, and so not start a heading, a table or another YAML entry."""
    return " ".join(str(text).split())
