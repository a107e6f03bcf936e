"""A job as a study in one of Optuna's storages, read back with Optuna's own calls."""

from pathlib import Path

import optuna
import pytest

from search.study.written_study import write_study
from space.errors import OutputError
from storage.records import Trial
from tests.storage.sample_job import SampleJob, sample_job


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


def _whole(sample: SampleJob) -> list[Trial]:
    """Return the trials that were measured on the whole text."""
    return [t for t in sample.trials if t.measurement and not t.sampler_state.num_sequences]


@pytest.fixture(scope="module")
def written(sample: SampleJob, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the storage that the job was written to, once: Optuna takes seconds for that."""
    url = f"sqlite:///{tmp_path_factory.mktemp('written')}/study.db"
    assert write_study(sample.job, sample.trials, sample.inventory, url) == len(_whole(sample)) > 20
    return url


def test_optuna_reads_it_back(sample: SampleJob, written: str) -> None:
    """Its best trials are those of the records, with levels as parameters, and points that know their names."""
    whole = _whole(sample)
    study = optuna.load_study(study_name=sample.job.job_id, storage=written)
    assert study.metric_names == ["size_bytes", "kl_divergence"]
    told = [(t.user_attrs["trial"], *t.values) for t in study.trials]
    assert told == [(t.number, t.size_bytes, t.measurement.kl_divergence) for t in whole if t.measurement]
    for found, trial in zip(study.trials, whole, strict=True):
        assert found.params.items() <= {name: str(level) for name, level in trial.plan.levels}.items()
    best = {t.user_attrs["trial"] for t in study.best_trials}
    values = {t.number: (t.size_bytes, t.measurement.kl_divergence) for t in whole if t.measurement}
    beaten = {
        n
        for n, (size, kl) in values.items()
        if any(s <= size and k <= kl and (s, k) != (size, kl) for s, k in values.values())
    }
    assert best == values.keys() - beaten
    points = {t.user_attrs["point"]: t.user_attrs["trial"] for t in study.trials if "point" in t.user_attrs}
    assert points == {p.point: p.trial for p in sample.document.front}


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/study.db", "mysql://me:secret@127.0.0.1:1/x", "file.db", ""]
)
def test_storages_that_cannot_be_used(sample: SampleJob, url: str) -> None:
    """One sentence, without a password."""
    with pytest.raises(OutputError, match="no study can be written there") as caught:
        write_study(sample.job, sample.trials, sample.inventory, url)
    assert "secret" not in str(caught.value)


def test_a_study_is_written_once(sample: SampleJob, written: str) -> None:
    """What is there is not added to."""
    with pytest.raises(OutputError, match="there is a study calm-otter-7 already"):
        write_study(sample.job, sample.trials, sample.inventory, written)


def test_half_a_study_is_taken_back(sample: SampleJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that fails amid the trials keeps none of them, and the study can be written once more."""
    url, add, few = f"sqlite:///{tmp_path}/study.db", optuna.Study.add_trial, _whole(sample)[:6]

    def failing(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if len(study.get_trials(deepcopy=False)) == 3:
            raise OSError("no space left on device")
        add(study, trial)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "add_trial", failing)
        with pytest.raises(OutputError, match="no study can be written there: no space left on device"):
            write_study(sample.job, few, sample.inventory, url)
    assert optuna.get_all_study_names(url) == []
    assert write_study(sample.job, few, sample.inventory, url) == len(few)
