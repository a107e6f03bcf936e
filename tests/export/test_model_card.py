"""The card of an export: front matter that the hub understands, the way to load it, and where the program is from."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from space.measurement import Measurement
from space.results.expert_tokens import ExpertTokens
from space.site import Site
from tests.storage.sample_job import SampleJob, sample_job
from tightfit import origin as origin_module
from tightfit.export.source import Written
from tightfit.export.targets.writer import Cache
from tightfit.export.targets.writer_table import WRITERS
from tightfit.export.verify import Verified
from tightfit.model_card import Facts, model_card, program_of, provenance
from tightfit.origin import Origin, origin, public_url
from workers.recover.recovery import Fitted, Recovered, Values
from workers.recover.refit import REFIT
from workers.text.tokens import TokenSet

VERIFIED = Verified(0.25, (0.2, 0.3), 9.0, 0.0)


@pytest.fixture
def sample() -> SampleJob:
    """Give a finished job."""
    return sample_job("calm-otter-7")


def _facts(sample: SampleJob, folder: Path, target: str = "packed", **spec: Any) -> Facts:
    point = sample.document.front[1]
    job = replace(sample.job, spec=sample.job.spec.model_copy(update={"model": str(folder), **spec}))
    written = Written(folder, 1000, 1100, 1000, {"model.safetensors": "0" * 64})
    plan = sample.plans[point.point]
    known = Origin("https://example.org/tightfit", "c" * 40)
    return Facts(job, folder, sample.inventory, point, plan, target, written, VERIFIED, None, known)


def _snapshot(folder: Path) -> Path:
    found = folder / "models--org--name" / "snapshots" / ("0" * 40)
    found.mkdir(parents=True)
    return found


@pytest.mark.parametrize("target", ["packed", "compressed-tensors"])
def test_front_matter_holds_what_is_known(sample: SampleJob, tmp_path: Path, target: str) -> None:
    """The hub's own parser reads it: base model and licence where they are known, and never a path."""
    (local := tmp_path / "mine").mkdir()
    snapshot = _snapshot(tmp_path)
    (snapshot / "README.md").write_text("---\nlicense: mit\nbase_model: other/one\n---\n")
    always = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["compression", "tightfit"]}
    base = {"base_model": "org/name", "base_model_relation": "quantized", "license": "mit"}
    for facts, title, expected in (
        (_facts(sample, local, target), "mine", always),
        (_facts(sample, snapshot, target), "org/name", always | base),
        (_facts(sample, snapshot, target, model="org/name"), "org/name", always | base),
        (_facts(sample, snapshot, target, model="org/name@main"), "org/name", always | base),
    ):
        card: Any = ModelCard(model_card(facts))
        assert card.data.to_dict() == expected
        assert f"# {title}, compressed to" in card.text
        assert str(tmp_path) not in card.content + str(provenance(facts))
        assert provenance(facts)["spec"]["model"] == title


def test_packed_card_says_how_to_get_what_it_needs(sample: SampleJob, tmp_path: Path) -> None:
    """The repository at the exporting commit, without what only searching needs; no index that does not have it."""
    facts = _facts(sample, tmp_path)
    card = model_card(facts)
    assert f'pip install --no-deps "tightfit @ git+https://example.org/tightfit@{"c" * 40}"' in card
    assert "import tightfit.hf" in card
    assert "pip install tightfit" not in card
    changed = model_card(replace(facts, origin=replace(facts.origin, is_changed=True)))
    assert "with changes that are in no repository" in changed
    unknown = model_card(replace(facts, origin=Origin()))
    assert 'pip install --no-deps "tightfit @ git+URL-OF-ITS-REPOSITORY"' in unknown
    assert "did not know" in unknown
    assert "did not know" not in card
    assert "tightfit.hf" not in model_card(_facts(sample, tmp_path, "compressed-tensors"))


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_card_says_what_a_refit_left_and_what_experts_saw(sample: SampleJob, tmp_path: Path) -> None:
    """A refit fits plain layers: of an experts' stack nothing else is promised; what it saw is in the record."""
    facts = _facts(sample, tmp_path)
    tokens = TokenSet("tokens", "a text", ("a", "b", "c"))
    start = Values(tokens, str(tmp_path))
    before, after = (Measurement.of_sequences([kl, kl], [1.0, 1.0], 8, 0.0, 0.0) for kl in (0.3, 0.25))
    refitted = Recovered(REFIT, start, before, after, (-0.1, -0.01), True, Fitted(start))
    job = replace(facts.job, facts=replace(facts.job.facts, experts=ExpertTokens(9, 300, 64)))
    first = next(m for m in facts.inventory.modules if m.block is not None and not facts.plan[m.name].is_dense)
    stack = replace(first, site=Site(first.name, (2, 3, 4), (first.name,)))
    modules = tuple(stack if m is first else m for m in facts.inventory.modules)
    mixture = replace(facts, job=job, refitted=refitted, inventory=replace(facts.inventory, modules=modules))
    assert " Of its sites 1, experts' projections and others" in model_card(mixture)
    assert "experts' projections" not in model_card(replace(facts, refitted=refitted))
    assert provenance(mixture)["experts"]["least"] == 9
    assert "experts" not in provenance(facts)


def test_origin_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit, address and changes are git's; another project's checkout around an installation is not ours."""
    monkeypatch.setattr(origin_module, "_ROOT", tmp_path)
    assert origin() == Origin()
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("x")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "--quiet", "--message", "x")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert origin() == Origin(None, commit)
    _git(tmp_path, "remote", "add", "origin", "https://me:token@example.org/us/tightfit.git")
    (tmp_path / "other").write_text("not of the repository")
    assert origin() == Origin("https://example.org/us/tightfit.git", commit)
    (tmp_path / "file").write_text("y")
    assert origin().is_changed
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(origin_module, "_ROOT", tmp_path / "site-packages")
    assert origin() == Origin()
    monkeypatch.setattr(origin_module, "_ROOT", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert origin() == Origin()


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://me:secret@example.org:8443/a/b", "https://example.org:8443/a/b"),
        ("git@example.org:a/b.git", "https://example.org/a/b.git"),
        ("ssh://git@example.org:2222/a/b.git", "https://example.org/a/b.git"),
        ("git+https://token@example.org/a", "https://example.org/a"),
        ("/home/me/tightfit", None),
        ("../tightfit", None),
        ("file:///home/me/tightfit", None),
        ("http://localhost:3000/a/b", None),
        ("https://example.org:port/a", None),
        ("", None),
    ],
)
def test_address_of_a_repository(url: str, public: str | None) -> None:
    """Names and passwords are left out, and so is what only this machine reaches."""
    assert public_url(url) == public


@pytest.mark.parametrize(
    ("family", "reader"),
    [
        ("causal-decoder", "tokenizer = AutoTokenizer"),
        ("speech-to-text", "processor = AutoProcessor"),
        ("image-classifier", "processor = AutoImageProcessor"),
        ("image-text-embedder", "processor = AutoProcessor"),
    ],
)
def test_loading_names_what_makes_inputs(family: str, reader: str) -> None:
    """Models of sound and images have no tokenizer of their own to be asked with."""
    import transformers

    program = program_of(Origin(), family)
    assert f"{reader}.from_pretrained" in program.loading
    assert hasattr(transformers, program.reader)
    assert hasattr(transformers, program.loader)


@pytest.mark.parametrize(
    ("target", "told"),
    [("gguf", "-c 8192 -np 4"), ("mlx", "--max-kv-size 2048"), ("vllm", "--max-model-len 2048 --max-num-seqs 4")],
)
def test_runtimes_are_told_the_cache_that_was_counted(target: str, told: str) -> None:
    """Where a budget has a context; else nothing is said of it."""
    loading = WRITERS[target].loading
    assert told in loading(program_of(Origin(), "causal-decoder", Cache(2048, 4)))
    assert told.split(maxsplit=1)[0] + " " not in loading(program_of(Origin(), "causal-decoder"))
