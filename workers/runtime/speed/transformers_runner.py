"""transformers: checkpoints as they are, and exports whose layers it has kernels or a reader for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from space.errors import UsageError
from workers.devices import compute_dtype, device_here
from workers.runtime.speed.timing import Course


@contextmanager
def in_transformers(course: Course) -> Iterator[tuple[str, "_Runner"]]:
    """Yield what transformers loads, on the GPU where there is one.

    Raises:
        UsageError: it is no decoder of text.

    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    import workers.runtime.transformers_hook  # noqa: F401 (registers our format)

    torch.set_num_threads(course.threads)
    config = transformers.AutoConfig.from_pretrained(course.folder, trust_remote_code=False, local_files_only=True)
    if not set(config.architectures or ()) & {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        raise UsageError(f"{course.folder}: {config.model_type} makes no text one token at a time, as decoders do.")
    device = device_here()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        course.folder, dtype=compute_dtype(device), trust_remote_code=False, local_files_only=True
    )
    with torch.inference_mode():
        yield f"transformers {transformers.__version__} on {_named(device)}", _Runner(model.eval().to(device), course)


def _named(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "the CPU"


class _Runner:
    def __init__(self, model: Any, course: Course) -> None:
        self._model, self._cache, self._course = model, None, course

    def read(self) -> None:
        self._cache = None
        self._step(self._course.prompt)

    def go_on(self) -> None:
        for token in self._course.following:
            self._step((token,))

    def _step(self, tokens: tuple[int, ...]) -> None:
        ids = torch.tensor([tokens], device=self._model.device)
        answer = self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = answer.past_key_values
        answer.logits[0, -1, 0].item()  # waits for it
