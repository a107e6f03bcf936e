"""What transformers takes for granted of a model, and another loader of its config takes otherwise."""

from pathlib import Path
from typing import Any

from workers.models.model_files import read_config


def sliding_window(model_folder: Path) -> int | None:
    """Return of how many tokens attention knows in blocks whose windows slide; None: of all that the model takes."""
    config = _config(model_folder)
    window: int = getattr(config, "sliding_window", None) or 0
    slides = getattr(config, "use_sliding_window", True) and 0 < window < config.max_position_embeddings
    return window if slides else None


def _config(model_folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model_folder, trust_remote_code=False, local_files_only=True)


def mlx_defaults(model_folder: Path) -> dict[str, Any]:
    """Return the fields that a config has not and mlx-lm must be told.

    Rotary embeddings are one field in newer configs, `rope_parameters`; mlx-lm reads the older ones.
    """
    known = _config(model_folder)
    config = known.to_dict() | {name: getattr(known, name) for name in known.attribute_map}
    rope = dict(config.pop("rope_parameters", None) or {})
    sliding = rope.pop("sliding_attention", {})
    rope = rope.pop("full_attention", rope)
    if config.get("head_dim") is None:
        config["head_dim"] = known.hidden_size // known.num_attention_heads
    names = ("rope_theta", "partial_rotary_factor")
    config |= {name: rope[name] for name in names if name in rope}
    config["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else rope
    if "rope_theta" in sliding:
        config["rope_local_base_freq"] = sliding["rope_theta"]
    given = read_config(model_folder)
    return {name: value for name, value in config.items() if name not in given or given[name] is None}
