"""A folder for ONNX Runtime: graphs, each with a file of its weights, onnxruntime-genai's settings, tokenizer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.plan import Plan
from space.targets.onnx_target import ONNX
from tightfit.export.source import Source
from tightfit.export.targets.writer import NO_CACHE, Cache, Program, copy_companions, write_json
from workers.models.companions import published
from workers.models.digests import file_digest
from workers.models.headers import StoredTensor
from workers.models.model_files import read_config, read_headers
from workers.onnx_files.graph_files import data_file, graphs_in, is_generated
from workers.onnx_files.onnx_tensors import OnnxTensor, read_tensors
from workers.onnx_files.packed_file import write_onnx
from workers.onnx_files.packed_graph import stored_names


@dataclass(frozen=True, slots=True)
class OnnxWriter:
    """How an ONNX folder is written.

    Attributes:
        loading: program -> how to load an export, in Markdown.
        library: what the hub calls what loads it.

    """

    loading: Callable[[Program], str]
    library: str = "onnx"

    def write(self, folder: Path, source: Source) -> tuple[int, dict[str, str]]:
        """Write the folder; see `TargetWriter`."""
        plan = [(module, source.plan[module.name]) for module in source.inventory.modules]
        size = write_onnx(source.model_folder, folder, plan, [*_tensors(source)])
        copy_companions(source.model_folder, folder)
        if not is_generated(folder):  # what reads an encoder's inputs, and names its classes, begins with its config
            write_json(folder / "config.json", published(read_config(source.model_folder)))
        files = [path for graph in graphs_in(folder) for path in (graph, data_file(graph))]
        return size, {path.name: file_digest(path) for path in files}

    def stored_bytes(self, folder: Path, inventory: Inventory, plan: Plan) -> Mapping[str, int | None]:
        """Return module name -> bytes of its weight in the files."""
        tensors = (tensor.info for graph in graphs_in(folder) for tensor in read_tensors(graph))
        sizes = {tensor.name: tensor.size_bytes for tensor in tensors}
        return {
            module.name: sum(sizes.get(name, 0) for name in stored_names(module, plan[module.name]))
            for module in inventory.modules
        }

    def commands(self, _: Path, __: Cache = NO_CACHE) -> Sequence[str]:
        """Return nothing: a folder is loaded by a program."""
        return ()


def _tensors(source: Source) -> Iterator[OnnxTensor]:
    stored = read_headers(source.model_folder)
    for module in source.inventory.modules:
        level = source.plan[module.name]
        if level.is_dense:
            (name,), tensor = stored_names(module, level), stored[module.sources[0]]
            yield OnnxTensor(replace(tensor.info, name=name), partial(_bytes, tensor))
            continue
        for name, info in zip(stored_names(module, level), ONNX.layout(module, level), strict=True):
            yield OnnxTensor(replace(info, name=name), partial(_level_bytes, source, module, level, info))


def _level_bytes(source: Source, module: ModuleInfo, level: Level, info: TensorInfo) -> bytes:
    """Return a level's values or scales: our rows are the blocks of a row, one behind the other."""
    tensors = source.levels.tensors(module.name, level)
    data: bytes = tensors["qweight" if info.name == "qweight" else "scale"].contiguous().numpy().tobytes()
    return data


def _bytes(tensor: StoredTensor) -> bytes:
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        return file.read(tensor.info.size_bytes)


def _loading(program: Program) -> str:
    return _OF_LOADER[program.loader] if program.loader in _OF_LOADER else _encoder(program)


def _encoder(program: Program) -> str:
    is_text = program.reader == "AutoTokenizer"
    given = '["A sentence.", "Another one."], padding=True' if is_text else "images"
    return f"""The folder is an ordinary graph for ONNX Runtime, in any of its languages; transformers reads its inputs.

```
pip install onnxruntime transformers
```

```python
import onnxruntime
from transformers import {program.reader}

model = onnxruntime.InferenceSession("this folder/model.onnx")
read = {program.reader}.from_pretrained("this folder")
inputs = read({given}, return_tensors="np")
names = [given.name for given in model.get_inputs()]
answers = model.run(None, {{name: inputs[name] for name in names}})
print(dict(zip([answer.name for answer in model.get_outputs()], answers)))
```"""


_GENERATED = """The folder is one of onnxruntime-genai, which makes text of it on servers, laptops and phones.

```
pip install onnxruntime-genai
```

```python
import onnxruntime_genai as og

model = og.Model("this folder")
tokenizer = og.Tokenizer(model)
settings = og.GeneratorParams(model)
settings.set_search_options(max_length=64)
generator = og.Generator(model, settings)
generator.append_tokens(tokenizer.encode("Once upon a time"))
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)))
```

`model.onnx` is an ordinary graph with a key/value cache as inputs and outputs: ONNX Runtime runs it in any of its
languages."""
_SPOKEN_TO = """The folder is one of onnxruntime-genai, which writes down speech on servers, laptops and phones.

```
pip install onnxruntime-genai
```

```python
import onnxruntime_genai as og

model = og.Model("this folder")
processor = model.create_multimodal_processor()
inputs = processor(["<|startoftranscript|><|notimestamps|>"], audios=og.Audios.open("speech.wav"))
settings = og.GeneratorParams(model)
settings.set_search_options(max_length=448, num_beams=1, batch_size=1)
generator = og.Generator(model, settings)
generator.set_inputs(inputs)
while not generator.is_done():
    generator.generate_next_token()
print(processor.decode(generator.get_sequence(0)))
```

Models of several languages begin with `<|startoftranscript|><|en|><|transcribe|><|notimestamps|>`, or another language.
`encoder.onnx` and `decoder.onnx` are ordinary graphs: ONNX Runtime runs them in any of its languages."""
_OF_LOADER = {"AutoModelForCausalLM": _GENERATED, "AutoModelForSpeechSeq2Seq": _SPOKEN_TO}
ONNX_WRITER = OnnxWriter(_loading)
