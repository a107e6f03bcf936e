"""A command line in this process, with a home of its own and a tiny model."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storage.job_summary import Recommended, Summary
from storage.open_store import open_store
from storage.records import JobState
from tests.storage.sample_job import SampleJob, sample_job
from tightfit.cli.app import main
from tightfit.config import load_settings


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return stdout as the one JSON document that it must be."""
        return json.loads(self.out)


Cli = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty home that no setting of this machine reaches into."""
    for name in ("TIGHTFIT_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIGHTFIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Give `tightfit` as a function."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tightfit", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Done(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a model folder: two blocks, 64 wide, a token a byte, weights that nobody will read."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 256}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    LlamaForCausalLM(LlamaConfig(**shape, **heads, tie_word_embeddings=True)).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def done(home: Path) -> SampleJob:
    """Give a home with one finished job."""
    sample = sample_job("calm-otter-7")
    store = open_store(load_settings().database_url)
    store.create_job(sample.job.job_id, sample.job.spec)
    store.create_trials(sample.trials)
    store.set_job_state(sample.job.job_id, JobState.RUNNING)
    store.update_job(sample.job.job_id, document=sample.document)
    store.put_summary(sample.job.job_id, summary_of(sample))
    store.set_job_state(sample.job.job_id, JobState.DONE)
    store.close()
    return sample


def summary_of(sample: SampleJob) -> Summary:
    """Return what a controller would write of a job at its end."""
    document, best = sample.document, sample.document.recommended
    assert best is not None
    return Summary(
        sample.job.created_at,
        dict(Counter(str(t.state) for t in sample.trials)),
        elapsed_seconds=671.5,
        share_done=1.0,
        seconds_left=0.0,
        hypervolume=document.hypervolume,
        best_kl_divergence=best.kl_divergence,
        marginal_price=document.marginal_price,
        measured_on=document.measured_on,
        num_points=len(document.front),
        recommended=Recommended(best.point, best.size_bytes, best.kl_divergence),
    )
