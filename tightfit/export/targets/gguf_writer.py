"""One GGUF file, tokenizer and chat template in it, and a Modelfile that makes Ollama take it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from space.codings.cache_coding import GGML_CACHE_TYPES
from space.inventory import Inventory, ModuleInfo
from space.plan import Plan
from tightfit.export.source import Source
from tightfit.export.targets.writer import NO_CACHE, Cache, Program, check_companions
from workers.gguf.gguf_architectures import tensor_names, without_expert
from workers.gguf.gguf_fields import add_model_fields, rope_factors
from workers.gguf.gguf_file import GgufTensor, architecture_in, read_gguf, write_gguf
from workers.gguf.gguf_model import GgufModel, gguf_model
from workers.gguf.gguf_tensors import (
    float32_tensor,
    level_tensor,
    stacked_tensor,
    stored_stack,
    stored_tensor,
    values_tensor,
)
from workers.gguf.gguf_tokenizer import add_tokenizer_fields
from workers.models.companions import licence_files, published_bytes
from workers.models.digests import file_digest
from workers.models.headers import StoredTensor
from workers.models.model_files import read_headers

_ROPE_FACTORS = "rope_freqs.weight"
GGUF_FILE = "model.gguf"


@dataclass(frozen=True, slots=True)
class GgufWriter:
    """How a GGUF file is written.

    Attributes:
        weights: the name of the file.
        loading: program -> how to load an export, in Markdown.
        library: what the hub calls what loads it.

    """

    weights: str
    loading: Callable[[Program], str]
    library: str = "gguf"

    def write(self, folder: Path, source: Source) -> tuple[int, dict[str, str]]:
        """Write the file, a Modelfile and the model's licence; factors of a rotary embedding count as its header."""
        check_companions(source.model_folder)
        model, path = gguf_model(source.model_folder), folder / self.weights
        tensors = [*_tensors(source, model)]
        write_gguf(path, model.architecture.name, partial(_add_fields, source, model), [*_header(model), *tensors])
        (folder / "Modelfile").write_text(f"FROM ./{self.weights}\n", encoding="utf-8")
        for licence in licence_files(source.model_folder):
            (folder / licence.name).write_bytes(published_bytes(licence))
        return sum(tensor.num_bytes for tensor in tensors), {self.weights: file_digest(path)}

    def stored_bytes(self, folder: Path, inventory: Inventory, _: Plan) -> Mapping[str, int | None]:
        """Return module name -> bytes of its weight in the file."""
        path = folder / self.weights
        renamed = tensor_names(architecture_in(path), inventory.num_blocks)
        stored = {tensor.name: tensor.num_bytes for tensor in read_gguf(path)}
        names = {m.name: {renamed(source) for source in _sources(m)} for m in inventory.modules}
        return {module: sum(stored.get(name, 0) for name in found) for module, found in names.items()}

    def commands(self, folder: Path, cache: Cache = NO_CACHE) -> Sequence[str]:
        """Return what a user types to run the file."""
        path = quote(str(folder / self.weights))
        return (
            _command(path, cache),
            f"ollama create {quote(folder.name.lower())} -f {quote(str(folder / 'Modelfile'))}",
        )


def _tensors(source: Source, model: GgufModel) -> Iterator[GgufTensor]:
    stored = read_headers(source.model_folder)
    for module in source.inventory.modules:
        weight, level = module.weight, source.plan[module.name]
        if module.site is not None and module.site.num_experts is not None:
            yield from _stacks(source, model, module, stored)
            continue
        name, heads = model.renamed(weight.name), model.num_heads_permuted(weight.name)
        if level.is_dense:
            yield stored_tensor(name, stored[module.sources[0]], heads)
        else:
            yield level_tensor(name, weight.shape, level.coding, heads, partial(_blocks, source, module))
    for tensor in source.inventory.others:
        heads = model.num_heads_permuted(tensor.name)
        yield float32_tensor(model.renamed(tensor.name), stored[tensor.name], heads, model.added(tensor.name))


def _stacks(
    source: Source, model: GgufModel, module: ModuleInfo, stored: Mapping[str, StoredTensor]
) -> Iterator[GgufTensor]:
    """Yield the tensors that hold a stack of experts; what transformers joins, gate and up, stands apart there."""
    level, count = source.plan[module.name], module.site.num_experts if module.site is not None else None
    assert count is not None  # noqa: S101 (no other site is in an architecture of the table)
    kinds = list(dict.fromkeys(map(without_expert, module.sources)))
    parts = {kind: [stored[name] for name in module.sources if without_expert(name) == kind] for kind in kinds}
    rows = [parts[kind][0].info.shape[0] for kind in kinds]
    for kind, begin, size in zip(kinds, accumulate([0, *rows]), rows, strict=False):
        if level.is_dense:
            yield stored_stack(model.renamed(kind), parts[kind])
            continue
        blocks = partial(_rows_of_experts, source, module, count, slice(begin, begin + size))
        yield stacked_tensor(model.renamed(kind), (count, size, module.in_features), level.coding, blocks)


def _rows_of_experts(source: Source, module: ModuleInfo, count: int, rows: slice) -> Any:
    """Return some rows of each expert, one expert after the other."""
    blocks = _blocks(source, module).numpy()
    return np.ascontiguousarray(blocks.reshape(count, -1, blocks.shape[1])[:, rows]).reshape(-1, blocks.shape[1])


def _sources(module: ModuleInfo) -> Sequence[str]:
    return (module.weight.name,) if module.site is None else module.sources


def _blocks(source: Source, module: ModuleInfo) -> Any:
    return source.levels.tensors(module.name, source.plan[module.name])["blocks"]


def _header(model: GgufModel) -> list[GgufTensor]:
    """Return the tensors that say again what the config says."""
    factors = rope_factors(model.config)
    return [] if factors is None else [values_tensor(_ROPE_FACTORS, factors)]


def _add_fields(source: Source, model: GgufModel, writer: Any) -> None:
    sizes: Counter[str] = Counter()
    for module in source.inventory.modules:
        level = source.plan[module.name]
        sizes[module.weight.dtype if level.is_dense else level.coding] += module.weight.num_elements
    (main_type, _), *_ = sizes.most_common(1)
    name, count = source.model_folder.name, source.inventory.num_parameters
    add_model_fields(writer, model.architecture, model.config, name, count, main_type)
    add_tokenizer_fields(writer, source.model_folder, model.config.vocab_size)


def _command(path: str, cache: Cache) -> str:
    """Return the command whose cache takes what was counted: `-c` is that of all sequences together."""
    name = _cache_type(cache)
    told = f" -fa on -ctk {name} -ctv {name}" if name else ""  # values need flash attention
    if not cache.context:
        return f"llama-cli -m {path}{told}"
    return f"llama-server -m {path} -c {cache.context * cache.batch} -np {cache.batch}{told}"


def _cache_type(cache: Cache) -> str:
    """Return what ggml calls the type of keys and values; empty where that is llama.cpp's own."""
    return "" if cache.level.bits is None else GGML_CACHE_TYPES[cache.level.bits]


def _loading(program: Program) -> str:
    name = _cache_type(program.cache)
    server = (
        ""
        if not name
        else f"""

Its server is told the type of keys and values by `OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={name}`."""
    )
    return f"""The file has its tokenizer and its chat template in it. llama.cpp, LM Studio and whatever else is made of
llama.cpp load it as it is.

```
{_command(GGUF_FILE, program.cache)}
```

Ollama takes it by the Modelfile beside it:

```
ollama create my-model -f Modelfile
ollama run my-model
```{server}"""


GGUF_WRITER = GgufWriter(GGUF_FILE, _loading)
