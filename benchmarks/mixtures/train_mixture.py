"""Train a small mixture of experts over Python source text, so that its routing means something.

    python -m benchmarks.mixtures.train_mixture OUT [--steps 300]

A Qwen3-MoE of 8 blocks x 16 experts, two of which a token is sent to (7 M parameters), with the bundled model's
tokenizer, on windows of 256 tokens of CPython's standard library (without the modules that tightfit calibrates and
judges on). The loss holds what keeps routers from sending all tokens to a few experts; the learning rate falls linearly
to zero over the last third. The same steps make the same model on the same machine: about five minutes of one core.
"""

import argparse
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.train_model import source_files
from workers.models.model_files import BUNDLED_FOLDER
from workers.text.text_sources import stdlib_text

_LENGTH, _BATCH = 256, 8
_RATE, _WARM_UP, _BALANCE = 3e-3, 30, 0.01
_TEXT_CHARACTERS = 6_000_000


def make_model() -> Any:
    """Return the mixture with fresh weights."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=4096,
        hidden_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=16,
        num_experts_per_tok=2,
        moe_intermediate_size=128,
        norm_topk_prob=True,
        intermediate_size=256,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        output_router_logits=False,
        router_aux_loss_coef=_BALANCE,
    )
    torch.manual_seed(0)
    return Qwen3MoeForCausalLM(config)


def read_tokens() -> Tensor:
    """Return the training text as one row of tokens, a file after the other."""
    from tokenizers import Tokenizer

    tokenizer, texts, left = Tokenizer.from_file(str(BUNDLED_FOLDER / "tokenizer.json")), list[str](), _TEXT_CHARACTERS
    for path in source_files(Path(sysconfig.get_paths()["stdlib"])):
        texts.append(path.read_text(encoding="utf-8", errors="ignore")[:100_000])
        left -= len(texts[-1])
        if left < 0:
            break
    rows = [torch.tensor([0, *encoding.ids], dtype=torch.int32) for encoding in tokenizer.encode_batch(texts)]
    return torch.cat(rows)


def train(model: Any, tokens: Tensor, steps: int) -> None:
    """Train for so many steps; prints the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / _WARM_UP, 3 * (1 - step / steps))
        starts = torch.randint(0, len(tokens) - _LENGTH - 1, (_BATCH,), generator=generator)
        rows = torch.stack([tokens[start : start + _LENGTH] for start in starts]).long()
        loss = model(input_ids=rows, labels=rows, use_cache=False, output_router_logits=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"step {step}, {step * rows.numel():,} tokens, loss {float(loss):.3f}", flush=True)


@torch.no_grad()
def held_out_loss(model: Any) -> float:
    """Return the mean next-token loss in nats on text that training did not see."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(BUNDLED_FOLDER / "tokenizer.json")).encode(stdlib_text("held_out")).ids
    rows = torch.tensor(ids[: 32 * _LENGTH]).view(32, _LENGTH)
    logits = torch.cat([model(input_ids=part, use_cache=False).logits for part in rows.split(_BATCH)])
    return float(F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()))


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = make_model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    train(model, read_tokens(), options.steps)
    model.eval()
    print(f"held-out loss {held_out_loss(model):.3f} nats")
    model.to(torch.bfloat16).save_pretrained(options.out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / name, options.out / name)


if __name__ == "__main__":
    main()
