"""Language models inside models of several media: text alone goes through them, towers are carried over unchanged."""

from dataclasses import replace
from typing import Any

from workers.families.kinds.causal_decoder import CAUSAL_DECODER


def _matches(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING

    built = MODEL_FOR_MULTIMODAL_LM_MAPPING.get(type(config), None)
    is_named = built is not None and named is not None and named.lower() == built.__name__.lower()
    return is_named and not getattr(config, "is_encoder_decoder", False)


MULTIMODAL_DECODER = replace(
    CAUSAL_DECODER, name="multimodal-decoder", loader="AutoModelForMultimodalLM", matches=_matches
)
