"""Tiny random models of several architectures, and a bench: a worker with text and calibration on one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import torch

from space.cost import module_bytes
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.targets.target_table import is_legal
from workers.families.read_inventory import inspect_model
from workers.levels.level_store import LevelStore
from workers.models.model_files import model_digest
from workers.tasks import DAMPED_BITS, BuildLevels, Calibrate, ChooseDamping, PrepareText, Teach, Workspace
from workers.text.text_sources import stdlib_text
from workers.text.tokens import TextRequest, TokenSet
from workers.worker import Worker

TinyKind = Literal["tied", "untied", "phi", "opt", "olmo"]
VOCABULARY = 300
EVERY_KIND = (
    *("b4-g32", "b3-gch-s0.5", "b4-g32-s2:4", "b5-gch-r4", "b3-g64-s0.25-r3", "b2-g32-s2:4-r2"),
    *("b8-gch", "dense", "b6-g64-r1", "b7-g16-s0.6", "b2-g64"),
    *("b2-gch-t-h", "b3-gch-t", "b4-g32-h", "b3-gch-t-h-s0.5-r2", "b5-g16-t-h-s2:4", "b8-gch-t-h"),
)
"""Texts of levels of every kind, coprime in number to the modules of a block."""


def write_text_file(path: Path, num_characters: int = 24_000) -> Path:
    """Write a text file, long enough for every test."""
    path.write_text(stdlib_text("search")[:num_characters], encoding="utf-8")
    return path


def make_tiny(folder: Path, kind: TinyKind) -> Path:
    """Save a tiny random model and its tokenizer; the seed is fixed."""
    torch.manual_seed(0)
    model = _MAKERS[kind]().to(torch.bfloat16)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def make_wide(folder: Path) -> Path:
    """Save a random Llama of one block whose widths are multiples of 128, its head too."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 384, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 256}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, bos_token_id=0, eos_token_id=1, initializer_range=0.15))
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def make_deep(folder: Path, num_blocks: int) -> Path:
    """Save a random Llama of many narrow blocks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": num_blocks}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, bos_token_id=0, eos_token_id=1, initializer_range=0.15))
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Save a small tokenizer of bytes and their merges."""
    _tokenizer().save_pretrained(folder)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([stdlib_text("search")[:20_000]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _llama(*, tied: bool, intermediate: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=intermediate,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.15,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def _with_random_biases(model: Any) -> Any:
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _phi() -> Any:
    """Return a Phi: another block layout, and biases everywhere, at the head too."""
    from transformers import PhiConfig, PhiForCausalLM

    config = PhiConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=100,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _with_random_biases(PhiForCausalLM(config))


def _opt() -> Any:
    """Return an OPT with linear layers between embedding and blocks: before and behind them."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        word_embed_proj_dim=32,
        ffn_dim=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        init_std=0.15,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return _with_random_biases(OPTForCausalLM(config))


def _olmo() -> Any:
    """Return an OLMo: its norms have no weights, and nothing has a bias."""
    from transformers import OlmoConfig, OlmoForCausalLM

    config = OlmoConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=1,
    )
    return OlmoForCausalLM(config)


_MAKERS: dict[TinyKind, Any] = {
    "tied": lambda: _llama(tied=True, intermediate=96),
    "untied": lambda: _llama(tied=False, intermediate=100),
    "phi": _phi,
    "opt": _opt,
    "olmo": _olmo,
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A tiny model with a worker, text, calibration and the dense model's answers."""

    folder: Path
    workspace: Workspace
    worker: Worker
    tokens: TokenSet

    @property
    def store(self) -> LevelStore:
        """Return where the worker's levels are."""
        cache = Path(self.workspace.cache_folder)
        return LevelStore(cache / "levels", self.workspace.model_digest, self.tokens.of("calibration"))

    @property
    def names(self) -> list[str]:
        """Return the names of the modules."""
        return [module.name for module in self.workspace.inventory.modules]

    def plan(self, texts: Sequence[str], target: str = "packed") -> Plan:
        """Return a plan that takes levels in turn where they are legal, and builds them; others are b8-gch or dense."""
        levels, turn = {}, cycle(map(parse_level, texts))
        for module in self.workspace.inventory.modules:
            tried = [next(turn), *([] if module.kind == "embedding" else [Level(8)]), Level(4, 32), DENSE]
            levels[module.name] = next(v for v in tried if is_legal(module, v, target))
        plan = Plan.of(levels)
        self.build(plan)
        return plan

    def build(self, plan: Plan, target: str = "packed") -> None:
        """Build the levels of a plan."""
        for module in self.workspace.inventory.modules:
            level = plan[module.name]
            sizes = ((level, module_bytes(module, level, target)),)
            self.worker.run(BuildLevels(self.tokens, module.name, sizes, (level,)))

    def dense_plan(self) -> Plan:
        """Return the plan that leaves everything as it is."""
        return Plan.dense(self.names)


def text_request(source: Path | None, seed: int = 0) -> TextRequest:
    """Return a small amount of text."""
    return TextRequest(None if source is None else str(source), 32, 8, 6, 6, seed)


def make_workspace(folder: Path, cache: Path) -> Workspace:
    """Return the workspace of a model folder."""
    return Workspace(str(folder), str(cache), model_digest(folder), inspect_model(folder))


def make_bench(folder: Path, cache: Path, text: Path, device: Any = "cpu") -> Bench:
    """Return a bench with text, calibration and the dense model's answers."""
    torch.set_num_threads(1)
    workspace = replace(make_workspace(folder, cache), device=device)
    worker = Worker(workspace)
    tokens: TokenSet = worker.run(PrepareText(text_request(text)))
    worker.run(Calibrate(tokens))
    for bits in DAMPED_BITS:
        worker.run(ChooseDamping(tokens, bits))
    worker.run(Teach(tokens, "search"))
    worker.run(Teach(tokens, "held_out"))
    return Bench(folder, workspace, worker, tokens)
