"""llama.cpp, by the library that proves exports."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from space.errors import UsageError
from workers.gguf.llama_cpp import LlamaCpp, is_installed, opened
from workers.runtime.speed.timing import Course


@contextmanager
def in_llama_cpp(course: Course) -> Iterator[tuple[str, "_Runner"]]:
    """Yield a file that llama.cpp has loaded, its cache in the type of the plan.

    Raises:
        UsageError: it is not installed.

    """
    if not is_installed():
        raise UsageError("llama.cpp is not here: pip install 'tightfit[llama-cpp]'.")
    path = next(course.folder.glob("*.gguf"))
    with opened(path, course.num_positions, course.threads, course.plan.cache_level) as runtime:
        yield f"llama.cpp (xllamacpp {version('xllamacpp')}) on the CPU", _Runner(runtime, course)


class _Runner:
    def __init__(self, runtime: LlamaCpp, course: Course) -> None:
        self._runtime, self._course = runtime, course

    def read(self) -> None:
        self._runtime.forget()
        self._runtime.read(self._course.prompt, 0)

    def go_on(self) -> None:
        for place, token in enumerate(self._course.following, len(self._course.prompt)):
            self._runtime.read((token,), place)
