"""One family of each kind goes the whole path: searched, exported, loaded again, its logits compared."""

from pathlib import Path

import pytest

from tests.families.whole_path import ENOUGH, LESS, judge
from tests.families.zoo_configs import CAUSAL, OTHERS

_EACH_KIND = (
    *("qwen3_moe", "mixtral", "gpt_oss", "gpt2", "gemma3_text", "jamba", "mamba", "qwen3_5", "bert", "bert-class"),
    *("gpt_neox", "llama4_text", "qwen3-embedding", "t5", "whisper", "wav2vec2", "vit"),
)
"""experts stored apart, renamed, and as stacks that stand as (in, out); Conv1D; a scaled tied embedding; blocks of
several kinds; weights that code takes for itself; images in text; replaced positions; classes; renamed heads; what is
pooled; two stacks on texts and on sound; frames of sound; classes of images"""


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("family", _EACH_KIND)
def test_whole_path(family: str, tmp_path: Path) -> None:
    """The searched model and its export compute the same, and at least 95 % of its bytes can be searched."""
    verdict = judge(family, tmp_path)
    assert verdict.told == "verified"
    assert verdict.share > ENOUGH or family in LESS


@pytest.mark.parametrize("family", ["resnet"])
def test_what_no_family_claims_is_refused(family: str, tmp_path: Path) -> None:
    """Before a job exists, by the class that it asks for."""
    verdict = judge(family, tmp_path)
    assert verdict.told.startswith(f"refused: config.json asks for {OTHERS[family][1]}")


@pytest.mark.slow
@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("family", sorted({*CAUSAL, *OTHERS} - {*_EACH_KIND}))
def test_every_other_family(family: str, tmp_path: Path) -> None:
    """Each ends in a verified export or is refused before a job exists; none is accepted and fails."""
    verdict = judge(family, tmp_path)
    assert verdict.told.startswith(("verified", "refused: "))
    assert verdict.share > ENOUGH or family in LESS or verdict.told.startswith("refused: ")
