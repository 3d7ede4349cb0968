"""The encoder for X-ARES, found and checked by X-ARES itself; its whole pipeline needs torchaudio as well."""

import pytest

CHECK = """
from xares.audio_encoder_checker import check_audio_encoder
from xares.utils import attr_from_py_path

encoder = attr_from_py_path("our_encoder.py", endswith="Encoder")({arguments})
assert check_audio_encoder(encoder)
print(encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms)
"""


@pytest.mark.parametrize(("arguments", "told"), [("", "16000 512 50"), ("'random_cvt', hop_ms=200", "16000 2048 200")])
def test_xares_finds_and_accepts_the_encoder_of_the_manual(kits, tmp_path, arguments, told):
    line = "from hear_byols.ecosystem.xares import HearByolsEncoder as Encoder"
    assert f"'{line}'" in (kits.checkout / "docs" / "evaluation.md").read_text()
    (tmp_path / "our_encoder.py").write_text(line)
    result = kits.run(["python", "-c", CHECK.format(arguments=arguments)], tmp_path, PYTHONPATH=str(tmp_path))
    assert result.stdout.strip() == told
