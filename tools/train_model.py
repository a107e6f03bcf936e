"""Train the bundled model: a 7 M parameter Llama over Python source text, on CPU cores or one GPU.

    python tools/train_model.py --state DIR --stable-tokens 20e6 --decay-tokens 5e6 --processes 2
    python tools/train_model.py --state DIR --export tightfit/model

A smaller one, as docs/search.md compares limits on (a quarter of an hour on one core; give its shape to --export too):

    SHAPE="--hidden-size 192 --intermediate-size 512"
    python tools/train_model.py --state DIR $SHAPE --stable-tokens 16e5 --decay-tokens 9e5 --processes 1

Training is stable-then-decay: the learning rate is constant until `--stable-tokens`, then falls linearly to zero over
`--decay-tokens`. The state folder holds the tokenizer, the tokens and the newest checkpoint, so that a killed run goes
on where it was and a longer stable phase can be added later. Hidden matrices are trained by Muon, the rest by AdamW.
"""

import argparse
import json
import os
import random
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workers.text.text_sources import STDLIB_MODULES, stdlib_text

END_OF_TEXT = "<|endoftext|>"
SEQUENCE_LENGTH = 256
MICRO_BATCH = 8
HEAD = 32
MICRO_STEPS = 3  # micro-batches per process and step
MUON_LR, ADAM_LR = 0.02, 0.004
STDLIB_SHARE = 0.5  # of the training windows; the rest comes from installed packages
PACKAGES = (  # permissively licensed (Apache-2.0, BSD, MIT, PSF-like), all dependencies of tightfit or of its tests
    *("alembic", "accelerate", "fastapi", "fsspec", "git", "graphql", "gunicorn", "hypothesis", "joblib"),
    *("matplotlib", "mlflow", "mypy", "networkx", "numpy", "optuna", "pandas", "pydantic", "pygments", "ray", "rich"),
    *("scipy", "setuptools", "sklearn", "sqlalchemy", "sympy", "torch", "transformers", "werkzeug", "aiohttp"),
)
CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [python, demo]
---
# The model that ships with tightfit

A Llama of 7.3 million parameters that continues Python source text: hidden 256, 8 layers, intermediate 768, 8 heads, 4
key/value heads, tied byte-level BPE vocabulary of 4096, 2048 positions, bfloat16. Every dimension divides by 256, so
that every export format can hold it. It exists to be compressed: `make demo`, the tests and the benchmarks use it.

- **Text**: CPython's standard library and the sources of tightfit's installed dependencies (Apache-2.0, BSD, MIT and
  PSF-like licences), half of the windows from each. The modules of `workers/text/text_sources.py` (calibration,
  search and held-out text), tests, vendored copies and files of the same name are left out.
- **Training**: {tokens:,.0f} tokens in windows of 256 by `tools/train_model.py`, on two CPU cores: constant learning
  rate, then a linear decay to zero; Muon for matrices, AdamW for the rest; seed 0.
- **Measured**: perplexity {held_out_perplexity:.3f} per token ({held_out_loss:.4f} nats) on the held-out modules as
  CPython 3.11 has them, in consecutive windows of 256, after rounding to bfloat16.
- **Limits**: small and shortly trained (about 2 tokens per parameter); good for comparing compressions, not for writing
  code.
"""
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "_vendor", "backports", "__pycache__", "models"}


def source_files(root: Path) -> Iterator[Path]:
    """Yield the Python files under `root`, without tests, vendored copies and modules kept for measuring."""
    reserved = {name for names in STDLIB_MODULES.values() for name in names}
    base_names = {Path(name).name for name in reserved} - {"__init__", "client", "request"}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(folder, name)
            relative = path.relative_to(root).with_suffix("").as_posix()
            if path.suffix == ".py" and relative not in reserved and path.stem.lstrip("_") not in base_names:
                yield path


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore")


def read_corpus() -> tuple[list[str], list[str]]:
    """Return the texts of the standard library and of the packages."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    site = Path(sysconfig.get_paths()["purelib"])
    own = [_read(path) for path in source_files(stdlib)]
    other = [_read(path) for package in PACKAGES for path in source_files(site / package)]
    return [t for t in own if len(t) > 400], [t for t in other if 400 < len(t) < 200_000]


def prepare(state: Path) -> None:
    """Train the tokenizer and write the token streams, once."""
    if (state / "packages.npy").exists():
        return
    state.mkdir(parents=True, exist_ok=True)
    stdlib, packages = read_corpus()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stdlib, trainer)
    tokenizer.save(str(state / "tokenizer.json"))
    random.Random(0).shuffle(packages)
    for name, texts in (("stdlib", stdlib), ("packages", packages[:8000])):
        ids = [np.array([0, *encoding.ids], dtype=np.uint16) for encoding in tokenizer.encode_batch(texts)]
        np.save(state / f"{name}.npy", np.concatenate(ids))
        print(f"{name}: {len(texts)} files, {sum(map(len, ids)):,} tokens", flush=True)


def make_model(arguments: argparse.Namespace) -> LlamaForCausalLM:
    """Return the model with fresh weights; as bundled, every dimension divides by 256 or is a head of 32."""
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=arguments.hidden_size,
        intermediate_size=arguments.intermediate_size,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden_size // HEAD,
        num_key_value_heads=arguments.hidden_size // HEAD // 2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="eager" if not torch.cuda.is_available() else "sdpa",
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def make_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices and AdamW for the embedding and the norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=MUON_LR, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def windows(streams: list[np.ndarray], rng: np.random.Generator, count: int) -> torch.Tensor:
    """Return (count, SEQUENCE_LENGTH + 1) random windows of the two streams, int64."""
    rows = []
    for _ in range(count):
        stream = streams[0] if rng.random() < STDLIB_SHARE else streams[1]
        start = rng.integers(0, len(stream) - SEQUENCE_LENGTH - 1)
        rows.append(stream[start : start + SEQUENCE_LENGTH + 1].astype(np.int64))
    return torch.from_numpy(np.stack(rows))


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Return the mean next-token loss in nats of a (B, T + 1) batch."""
    with torch.autocast(batch.device.type, torch.bfloat16):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def held_out_windows(state: Path, limit: int | None = None) -> torch.Tensor:
    """Return the held-out text as (N, SEQUENCE_LENGTH + 1) consecutive windows."""
    ids = Tokenizer.from_file(str(state / "tokenizer.json")).encode(stdlib_text("held_out")).ids
    count = len(ids) // (SEQUENCE_LENGTH + 1)
    rows = torch.tensor(ids[: count * (SEQUENCE_LENGTH + 1)]).view(count, -1)
    return rows if limit is None else rows[:: max(1, count // limit)]


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, rows: torch.Tensor) -> float:
    """Return the mean loss over held-out windows."""
    model.eval()
    losses = [float(loss_of(model, rows[i : i + 8])) * len(rows[i : i + 8]) for i in range(0, len(rows), 8)]
    model.train()
    return sum(losses) / len(rows)


def rate(tokens: float, stable: float, decay: float) -> float:
    """Return the learning-rate factor after `tokens` tokens: warm-up, constant, linear to zero."""
    return min(1.0, (tokens + 1) / 300_000, max(0.0, (stable + decay - tokens) / max(decay, 1.0)))


def train(rank: int, arguments: argparse.Namespace) -> None:
    """Train in one of `--processes` processes; gradients are averaged over all of them each step."""
    torch.set_num_threads(1)
    world = arguments.processes
    if world > 1:
        store = dist.FileStore(  # type: ignore[attr-defined]
            str(arguments.state / "rendezvous"), world
        )
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    streams = [np.load(arguments.state / f"{name}.npy") for name in ("stdlib", "packages")]
    rows = held_out_windows(arguments.state, 48).to(device)
    model = make_model(arguments).to(device)
    optimizers = make_optimizers(model)
    tokens = restore(arguments.state / "checkpoint.pt", model, optimizers, device)
    rng = np.random.default_rng([int(tokens), rank])
    stable, total = arguments.stable_tokens, arguments.stable_tokens + arguments.decay_tokens
    per_step = MICRO_BATCH * MICRO_STEPS * world * SEQUENCE_LENGTH
    base_rates = [group["lr"] for optimizer in optimizers for group in [optimizer.defaults]]
    step, started, mean = 0, time.monotonic(), 0.0
    while tokens < total:
        for optimizer, base in zip(optimizers, base_rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate(tokens, stable, arguments.decay_tokens)
        for _ in range(MICRO_STEPS):
            loss = loss_of(model, windows(streams, rng, MICRO_BATCH).to(device)) / MICRO_STEPS
            loss.backward()
            mean += loss.item()
        average_gradients(model, world)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens, step = tokens + per_step, step + 1
        if rank == 0 and (step % 20 == 0 or tokens >= total):
            speed = step * per_step / (time.monotonic() - started)
            print(f"tokens {tokens / 1e6:.2f}M loss {mean / 20:.4f} {speed:.0f} tok/s", flush=True)
            mean = 0.0
        if rank == 0 and (step % 100 == 0 or tokens >= total):
            print(f"tokens {tokens / 1e6:.2f}M held-out {held_out_loss(model, rows):.4f}", flush=True)
            name = "checkpoint.pt" if tokens <= stable else "decayed.pt"
            save(arguments.state / name, model, optimizers, tokens)


def average_gradients(model: LlamaForCausalLM, world: int) -> None:
    """Average all gradients over the processes in one message."""
    if world == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    dist.all_reduce(flat)
    pieces = flat.div_(world).split([p.numel() for p in model.parameters()])
    for parameter, piece in zip(model.parameters(), pieces, strict=True):
        parameter.grad = piece.view_as(parameter)


def save(path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], tokens: float) -> None:
    """Write weights, optimizer states and the token count, atomically."""
    content = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "tokens": tokens}
    torch.save(content, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def restore(path: Path, model: LlamaForCausalLM, optimizers: list[Any], device: str) -> float:
    """Load the newest stable checkpoint where there is one; return the tokens it has seen."""
    if not path.exists():
        return 0.0
    content = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(content["model"])
    for optimizer, state in zip(optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return float(content["tokens"])


def export(arguments: argparse.Namespace) -> None:
    """Write the decayed weights as a bfloat16 checkpoint with its tokenizer; print what it measures."""
    state, out = arguments.state, arguments.export
    content = torch.load(state / "decayed.pt", map_location="cpu", weights_only=True)
    model = make_model(arguments)
    model.load_state_dict(content["model"])
    model.to(torch.bfloat16).float()
    loss = held_out_loss(model, held_out_windows(state))
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer = Tokenizer.from_file(str(state / "tokenizer.json"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    ).save_pretrained(out)
    is_bundled = model.config.hidden_size == 256 and model.config.num_hidden_layers == 8  # which the card describes
    measured = {"tokens": content["tokens"], "held_out_loss": loss, "held_out_perplexity": float(np.exp(loss))}
    if is_bundled:
        (out / "README.md").write_text(CARD.format(**measured), encoding="utf-8")
    print(json.dumps(measured, indent=2))


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--stable-tokens", type=float, default=20e6)
    parser.add_argument("--decay-tokens", type=float, default=5e6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--intermediate-size", type=int, default=768)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--export", type=Path)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments)
        return
    prepare(arguments.state)
    (arguments.state / "rendezvous").unlink(missing_ok=True)
    if arguments.processes == 1:
        train(0, arguments)
    else:
        torch.multiprocessing.spawn(train, args=(arguments,), nprocs=arguments.processes)  # type: ignore[attr-defined,no-untyped-call]


if __name__ == "__main__":
    main()
