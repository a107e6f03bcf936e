"""Our own container: the tensors of the level store as they are."""

from importlib.metadata import version
from typing import Any

from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.plan import Plan
from tightfit.export.container import Entry, stored_entry
from tightfit.export.targets.writer import LevelTensors, Program, Writer
from workers.runtime.packed_format import (
    CACHE_VERSION,
    EXPERTS_VERSION,
    NO_SHAPE,
    NO_WEIGHTS,
    QUANT_METHOD,
    SCHEMA_VERSION,
    SITES_VERSION,
    WEIGHTS_FIELD,
)


def _entries(module: ModuleInfo, _: Level, tensors: LevelTensors) -> list[Entry]:
    """Return a level's tensors, and one without bytes that loaders meet which do not know the format."""
    stored = [stored_entry(f"{module.prefix}.{name}", tensor) for name, tensor in tensors.items()]
    return [*stored, Entry(TensorInfo(module.parameter, NO_SHAPE, "U8"), b"")]


def _config(inventory: Inventory, plan: Plan) -> dict[str, Any]:
    tied = {copy: module.name for module in inventory.modules for copy in module.tied}
    texts = {module.name: str(plan[module.name]) for module in inventory.modules}
    settings: dict[str, Any] = {"quant_method": QUANT_METHOD, "plan": texts, "tied": tied}
    settings["schema_version"] = SCHEMA_VERSION
    sites = {m.name: m.site for m in inventory.modules if m.site is not None and not m.is_layer}
    if sites:
        settings["schema_version"] = SITES_VERSION
        settings["parameters"] = {name: site.parameter for name, site in sites.items()}
        settings["transposed"] = [name for name, site in sites.items() if site.transposed]
    apart = {name: site.expert for name, site in sites.items() if site.expert is not None}
    if apart:
        settings["schema_version"], settings["experts"] = EXPERTS_VERSION, apart
    cache = {c.name: str(plan[c.name]) for c in inventory.caches if not plan[c.name].is_dense}
    if cache:
        settings["schema_version"], settings["cache"] = CACHE_VERSION, cache
    return {"quantization_config": settings, WEIGHTS_FIELD: NO_WEIGHTS}


def _loading(program: Program) -> str:
    return f"""The format is tightfit's own. Loading takes torch, transformers, safetensors and tightfit. That is on no
package index: it is installed from its repository{program.remark}. `--no-deps` leaves out what only searching needs.
numba makes it fast on CPUs, and can be left out.

```
pip install "torch=={_public("torch")}" "transformers=={_public("transformers")}" safetensors numba
pip install --no-deps "tightfit @ {program.source}"
```

```python
import tightfit.hf  # without it transformers refuses the folder
{program.loading}
```"""


def _public(package: str) -> str:
    """Return a package's version without the name of a build of it, such as `+cpu`."""
    return version(package).partition("+")[0]


PACKED_WRITER = Writer(_entries, _config, keeps_digests=True, loading=_loading)
