"""The additive model of a plan's loss, from single-module probes and calibrated output errors.

A module's KL is near a power of its relative output error (linearity theorem, arXiv 2411.17525), so two probes price
every level of it: bits, group sizes, sparsity and rank share one currency. Measured plans then correct each module's
price (ridge regression on the residuals).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

import numpy as np

from space.level import Level
from space.plan import Plan

_FLOOR = 1e-9
_EXPONENTS = (0.7, 1.3)  # how far a module's KL may bend away from proportional to its output error
_PRIOR_SPREAD = 0.3  # standard deviation of a module's log correction before any plan is measured
_NOISE = 0.03  # relative noise of one measured plan, model misfit included
Errors = Mapping[str, Mapping[Level, float]]
"""module name -> level -> calibrated relative output error"""


@dataclass(frozen=True, slots=True)
class Probe:
    """One module changed in an otherwise nearly lossless plan, and the KL it caused."""

    module_name: str
    level: Level
    kl_divergence: float


@dataclass(frozen=True)
class AdditiveModel:
    """module name -> level -> predicted KL."""

    losses: Mapping[str, Mapping[Level, float]]

    def predict(self, plan: Plan) -> float:
        """Return the sum of a plan's losses."""
        return sum(self.losses[name][level] for name, level in plan.levels)

    def scaled(self, factors: Mapping[str, float]) -> "AdditiveModel":
        """Return the model with each module's losses multiplied."""
        return AdditiveModel({n: {v: k * factors[n] for v, k in levels.items()} for n, levels in self.losses.items()})


def fit_probes(errors: Errors, probes: Sequence[Probe]) -> AdditiveModel:
    """Return the additive model that goes through the probes.

    A module without a usable probe (pinned, or below the noise) takes the median price per output error of all.
    """
    by_module: dict[str, list[tuple[float, float]]] = {name: [] for name in errors}
    for probe in probes:
        error = errors[probe.module_name][probe.level]
        if error > 0 and probe.kl_divergence > _FLOOR:
            by_module[probe.module_name].append((error, probe.kl_divergence))
    rates = [kl / error for points in by_module.values() for error, kl in points]
    pooled = median(rates) if rates else 1.0
    return AdditiveModel(
        {
            name: {v: _price(e, sorted(by_module[name]), pooled) for v, e in levels.items()}
            for name, levels in errors.items()
        }
    )


def _price(error: float, points: list[tuple[float, float]], pooled: float) -> float:
    """Return the KL at an output error: a power law through the two probes, its exponent kept near one."""
    if error <= 0:
        return 0.0
    if not points:
        return pooled * error
    exponent = 1.0
    if len(points) > 1 and points[-1][0] > points[0][0]:
        (low_error, low_kl), (high_error, high_kl) = points[0], points[-1]
        exponent = log(high_kl / low_kl) / log(high_error / low_error)
    exponent = min(max(exponent, _EXPONENTS[0]), _EXPONENTS[1])
    anchor_error, anchor_kl = min(points, key=lambda p: abs(log(error / p[0])))
    return float(anchor_kl * (error / anchor_error) ** exponent)


@dataclass(frozen=True)
class Correction:
    """Gaussian belief about each module's log correction: mean (M,) and covariance (M, M)."""

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    def factors(self, rng: np.random.Generator | None = None) -> dict[str, float]:
        """Return multipliers per module: the mean ones, or a draw from the belief."""
        theta = self.mean if rng is None else rng.multivariate_normal(self.mean, self.covariance, method="cholesky")
        return {name: exp(value) for name, value in zip(self.names, theta, strict=True)}


def fit_correction(model: AdditiveModel, measured: Sequence[tuple[Plan, float]]) -> Correction:
    """Return the belief about module corrections after measured (plan, KL) pairs.

    The overall drift between prediction and measurement (losses do not quite add) is a smooth function of the
    prediction; it is taken out by a cubic in the logarithm before modules are blamed.
    """
    names = tuple(model.losses)
    predicted = np.array([model.predict(plan) for plan, _ in measured])
    actual = np.array([kl for _, kl in measured])
    residual = np.log(np.maximum(actual, _FLOOR) / np.maximum(predicted, _FLOOR))
    residual -= _trend(np.log(np.maximum(predicted, _FLOOR)), residual)
    shares = np.array([[model.losses[name][plan[name]] for name in names] for plan, _ in measured])
    shares /= np.maximum(shares.sum(1, keepdims=True), _FLOOR)
    shares -= shares.mean(0, keepdims=True)
    precision = np.eye(len(names)) / _PRIOR_SPREAD**2 + shares.T @ shares / _NOISE**2
    covariance = np.linalg.inv(precision)
    return Correction(names, covariance @ shares.T @ residual / _NOISE**2, (covariance + covariance.T) / 2)


def _trend(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    degree = min(3, max(0, len(x) - 3))
    return np.asarray(np.polynomial.Polynomial.fit(x, y, degree)(x)) if degree else np.full_like(y, y.mean())
