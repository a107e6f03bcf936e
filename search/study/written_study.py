"""A job's trials as a study in one of Optuna's own storages, for optuna-dashboard and for whoever knows Optuna.

Parameters are the texts of levels, one per module that took more than one; values are the bytes that count against the
budget and the KL divergence on all of the search text. Plans that were measured on a part of it only are left out:
their KL is of other sequences, and could seem better than it is.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from space.cost import module_bytes
from space.errors import OutputError, in_one_line
from space.inventory import Inventory
from space.parsing.addresses import without_password
from space.results.document import FrontDocument
from space.targets.target_table import items_of_model
from storage.records import Job, Trial


def write_study(job: Job, trials: Sequence[Trial], inventory: Inventory, storage: str) -> int:
    """Write a study under the job's name; return how many trials it has.

    Args:
        job: whose study it is.
        trials: of the job.
        inventory: of its model.
        storage: a URL that SQLAlchemy reads, such as `sqlite:///study.db`.

    Raises:
        OutputError: the storage cannot be used, or has a study of that name.

    """
    whole = [trial for trial in trials if _is_whole(trial)]
    distributions = _distributions(whole, inventory, job.spec.target)
    points = _points(job.document)
    written = [_written(trial, distributions, points) for trial in whole]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(storage=storage, study_name=job.job_id, directions=["minimize", "minimize"])
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            study.set_metric_names(["size_bytes", "kl_divergence"])
        _add_all(storage, study, written)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise OutputError(
            f"{without_password(storage)}: there is a study {job.job_id} already; name another --storage."
        ) from error
    except Exception as error:  # of SQLAlchemy and databases, of many kinds; nothing else is asked here
        raise OutputError(
            f"{without_password(storage)}: no study can be written there: {in_one_line(error)}."
        ) from error
    return len(written)


def _add_all(storage: str, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Add trials; where that fails nothing is left of the study."""
    try:
        study.add_trials(trials)
    except BaseException:
        with suppress(Exception):  # what is raised already says why
            optuna.delete_study(study_name=study.study_name, storage=storage)
        raise


def _is_whole(trial: Trial) -> bool:
    return trial.measurement is not None and not trial.sampler_state.num_sequences


def _distributions(trials: Sequence[Trial], inventory: Inventory, target: str) -> dict[str, BaseDistribution]:
    """Return item -> the levels that it took, by bytes of its first module; items that took one have no parameter."""
    found: dict[str, BaseDistribution] = {}
    for module in map(inventory.module, items_of_model(inventory, target)):
        sizes = {level: module_bytes(module, level, target) for level in {trial.plan[module.name] for trial in trials}}
        levels = [str(level) for level in sorted(sizes, key=lambda level: (sizes[level], str(level)))]
        if len(levels) > 1:
            found[module.name] = CategoricalDistribution(levels)
    return found


def _points(document: FrontDocument | None) -> dict[int, dict[str, Any]]:
    """Return trial -> what is told of its point on the front."""
    if document is None:
        return {}
    kl = f"{document.measured_on}_kl_divergence"
    return {p.trial: {"point": p.point, "recommended": p.recommended, kl: p.kl_divergence} for p in document.front}


def _written(
    trial: Trial, distributions: dict[str, BaseDistribution], points: dict[int, dict[str, Any]]
) -> FrozenTrial:
    assert trial.measurement is not None  # noqa: S101 (whole trials have one)
    about = {"trial": trial.number, "origin": trial.origin, "perplexity": trial.measurement.perplexity}
    return create_trial(
        state=TrialState.COMPLETE,
        params={name: str(trial.plan[name]) for name in distributions},
        distributions=distributions,
        values=[trial.size_bytes, trial.measurement.kl_divergence],
        user_attrs={**about, **points.get(trial.number, {})},
    )
