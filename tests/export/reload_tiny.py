"""Load exported folders in a fresh process as a user would: `python -m tests.export.reload_tiny`, JSON in and out.

Nothing of the project is imported but `tightfit.hf`, and that only for the packed format.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def _load(folder: Path, dtype: Any) -> tuple[Any, dict[str, list[str]]]:
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    return model.eval(), {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}


def _exact(model: Any) -> None:
    from tightfit.hf import use_fast_kernels

    use_fast_kernels(model, fast=False)


def _held_bytes(model: Any) -> int:
    """Return the bytes of all parameters and buffers that a checkpoint would hold, shared ones once."""
    tensors = {t.data_ptr(): t for t in model.state_dict().values()}
    return sum(t.nbytes for t in tensors.values())


def _check(folder: Path, ids: torch.Tensor) -> dict[str, Any]:
    model, problems = _load(folder, torch.float32)
    with torch.no_grad():
        fast = model(input_ids=ids).logits
        if "hf" in sys.argv:
            _exact(model)
        logits = model(input_ids=ids).logits
        generated = model.generate(ids[:1], max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=1)
    save_file({"logits": logits.contiguous()}, folder.with_name(f"{folder.name}.logits"))
    as_stored, _ = _load(folder, "auto")
    answer = {"problems": problems, "generated": generated.shape[1], "held_bytes": _held_bytes(as_stored)}
    if "hf" not in sys.argv:
        return answer
    again = folder.with_name(f"{folder.name}-again")
    model.save_pretrained(again)
    second, second_problems = _load(again, torch.float32)
    _exact(second)
    dtype = str(second.dtype)
    with torch.no_grad():
        difference = float((second(input_ids=ids).logits - logits).abs().max())
        dequantized = float((second.dequantize()(input_ids=ids).logits - logits).abs().max())
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    dense_bytes = sum(p.nbytes for p in second.parameters())
    return answer | {
        "fast": float((fast - logits).abs().max() / (logits.max() - logits.min())),
        "dequantized": dequantized,
        "dense_bytes": dense_bytes,
        "again": difference,
        "again_problems": second_problems,
        "dense_weights": names,
        "dtype": dtype,
    }


def main() -> None:
    """Answer for each folder on stdin."""
    torch.set_num_threads(1)
    if "hf" in sys.argv:
        import tightfit.hf  # noqa: F401
    request = json.loads(sys.stdin.read())
    ids = torch.tensor(request["ids"])
    with redirect_stdout(sys.stderr):
        answers = {folder: _check(Path(folder), ids) for folder in request["folders"]}
    ours = [name for name in sys.modules if name.partition(".")[0] in ("tightfit", "workers")]
    print(json.dumps({"answers": answers, "imported": ours}))


if __name__ == "__main__":
    main()
