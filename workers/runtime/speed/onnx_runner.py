"""onnxruntime-genai: the graph of a decoder with its cache."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from space.errors import UsageError
from workers.onnx_files.graph_files import is_generated
from workers.runtime.speed.timing import Course


@contextmanager
def in_onnx_runtime(course: Course) -> Iterator[tuple[str, "_Runner"]]:
    """Yield a folder that onnxruntime-genai has loaded.

    Raises:
        UsageError: it makes no text, or the package is not here.

    """
    if not is_generated(course.folder):
        raise UsageError(f"{course.folder}: no decoder of text alone, whose speed could be told.")
    try:
        import onnxruntime_genai as genai
    except ImportError as error:
        raise UsageError("onnxruntime-genai is not here: pip install 'tightfit[onnx]'.") from error
    config = genai.Config(str(course.folder))
    options = {"session_options": {"intra_op_num_threads": course.threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    yield f"ONNX Runtime (genai {genai.__version__}) on the CPU", _Runner(genai, genai.Model(config), course)


class _Runner:
    def __init__(self, genai: Any, model: Any, course: Course) -> None:
        self._genai, self._model, self._course = genai, model, course
        self._generator: Any = None

    def read(self) -> None:
        parameters, room = self._genai.GeneratorParams(self._model), self._course.num_positions
        parameters.set_search_options(max_length=room, min_length=room)  # or it might end before
        self._generator = self._genai.Generator(self._model, parameters)
        self._generator.append_tokens([*self._course.prompt])

    def go_on(self) -> None:
        for _ in range(self._course.num_tokens):
            self._generator.generate_next_token()
