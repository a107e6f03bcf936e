"""mlx-lm: on the GPU of Apple's machines, on the CPU elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from space.errors import UsageError
from workers.runtime.loaders.mlx_loader import head_size, packed_cache
from workers.runtime.speed.timing import Course


@contextmanager
def in_mlx(course: Course) -> Iterator[tuple[str, "_Runner"]]:
    """Yield a folder that mlx-lm has loaded, its cache in the bits of the plan. Raises UsageError: it is not here."""
    try:
        import mlx.core as mx
        from mlx_lm.utils import load_model
    except ImportError as error:
        raise UsageError("mlx-lm is not here: pip install 'tightfit[mlx]'.") from error
    model, _ = load_model(course.folder)
    device = "the GPU" if mx.default_device() == mx.Device(mx.gpu) else "the CPU, all of its threads"
    yield f"mlx-lm {version('mlx-lm')} on {device}", _Runner(model, course)


class _Runner:
    def __init__(self, model: Any, course: Course) -> None:
        self._model, self._course = model, course
        self._cache: Any = None

    def read(self) -> None:
        from mlx_lm.models.cache import make_prompt_cache

        bits = self._course.plan.cache_level.bits
        folder = self._course.folder
        self._cache = (
            make_prompt_cache(self._model) if bits is None else packed_cache(self._model, bits, head_size(folder))
        )
        self._step(self._course.prompt)

    def go_on(self) -> None:
        for token in self._course.following:
            self._step((token,))

    def _step(self, tokens: tuple[int, ...]) -> None:
        import mlx.core as mx

        mx.eval(self._model(mx.array([tokens]), cache=self._cache)[:, -1])
