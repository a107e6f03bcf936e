"""Which models the zoo has: families of transformers, and what of a config makes a tiny model of each.

An entry has sizes of its own beside those of `zoo_sizes`.
"""

from typing import Any

from tests.families.zoo_sizes import VOCABULARY

_FOUR: dict[str, Any] = {"num_hidden_layers": 4}
_ATTENTION_LAST = [*["linear_attention"] * 3, "full_attention"]
_ALL_HEADS: dict[str, Any] = {"num_key_value_heads": 4}
_CONVOLUTIONS = ["conv", "conv", "full_attention", "conv"]
_GEMMA4: dict[str, Any] = {
    "num_hidden_layers": 4,
    "per_layer_config": {3: {"head_dim": 32}},
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
}
_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "embed_dim": 32,
    "num_heads": 4,
    "intermediate_size": 64,
    "out_hidden_size": 64,
    "patch_size": 8,
    "deepstack_visual_indexes": [0],
    "fullatt_block_indexes": [1],
    "window_size": 32,
    "num_position_embeddings": 16,
}
_OF_ALL_HEADS = (
    *("opt", "minicpm3", "deepseek_v2", "deepseek_v3", "deepseek_v32", "youtu", "glm4_moe_lite", "longcat_flash"),
    "glm_moe_dsa",
)
_PLAIN = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "olmo", "olmo2", "granite", "phi3", "starcoder2", "glm"),
    *("glm4", "stablelm", "cohere", "nemotron", "helium", "smollm3", "exaone4", "ernie4_5", "arcee", "apertus"),
    *("seed_oss", "internlm3", "hunyuan_v1_dense", "nanochat", "bitnet", "doge", "diffllama", "persimmon"),
    *("gpt2", "gpt_bigcode", "gpt_neox", "bloom", "codegen", "mamba", "falcon_mamba", "rwkv", "ministral3"),
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "flex_olmo", "granitemoe", "granitemoeshared", "phimoe"),
    *("glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe", "hy_v3", "dots1", "solar_open", "jetmoe", "minimax_m2"),
    *("aria_text", "falcon_h1"),
)
_OF_FOUR = (
    *("ministral", "gemma2", "gemma3_text", "gemma3n_text", "vaultgemma", "cohere2", "olmo3", "cwm", "afmoe"),
    *("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "gpt_oss", "llama4_text", "minimax", "kimi_linear"),
    *("olmo_hybrid", "recurrent_gemma", "cohere2_moe", "mimo_v2_flash", "lfm3", "modernbert-decoder"),
)
CAUSAL: dict[str, dict[str, Any]] = {
    **{name: {} for name in _PLAIN},
    **dict.fromkeys(_OF_FOUR, _FOUR),
    **dict.fromkeys(_OF_ALL_HEADS, _ALL_HEADS),
    "gemma4_text": _GEMMA4,
    "kimi_linear": {**_FOUR, **_ALL_HEADS, "num_experts_per_token": 2, "layer_types": _ATTENTION_LAST},  # not 8 of 4
    "lfm2": {"num_hidden_layers": 4, "layer_types": _CONVOLUTIONS},
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": _CONVOLUTIONS, "num_dense_layers": 1},
    "phi": {"num_key_value_heads": 4, "partial_rotary_factor": 0.5},
    "gptj": {"rotary_dim": 8},
    "falcon": {"num_kv_heads": 4, "new_decoder_architecture": False},
    "mpt": {"n_heads": 4, "n_layers": 3, "expansion_ratio": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "xglm": {"attention_heads": 4},
    "bamba": {"num_hidden_layers": 4, "attn_layer_indices": [2]},
    "granitemoehybrid": {"num_hidden_layers": 4, "layer_types": ["mamba", "mamba", "attention", "mamba"]},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "attention_layers": ["global", "local"],
        "num_layers": 2,
    },
    "exaone_moe": _FOUR,
    "deepseek_v4": _FOUR,
    "laguna": {**_FOUR, "num_attention_heads_per_layer": [4] * 4},
    "qwen4_exp_text": {
        "num_hidden_layers": 4,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 32,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 16,
    },
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_blocks": 3},  # its cache wants multiples of 64
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "mamba_headdim": 16,
        "attention_head_dim": 32,
        "attention_hidden_size": 128,
        "kv_channels": 16,
        "num_query_groups": 4,
        "num_key_value_heads": 4,
        "mamba_d_state": 16,
        "adapter_rank": 8,
    },
    "nemotron_h": {
        "num_hidden_layers": 4,
        "hybrid_override_pattern": "M-*E",
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
    },
}
"""model type -> what its config has beside `zoo_sizes.SMALL`; each is built as a causal language model"""
_MARKED: dict[str, Any] = {"vocab_size": VOCABULARY + 16}  # rows for marks of images, too
_WITH_VISION = {"vision_config": _VISION, "text_config": _MARKED | _MROPE}
_FOUR_WITH_VISION = {"vision_config": _VISION, "text_config": _MARKED | _FOUR}
_T5GEMMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_NO_STAGES = {"stage_names": None, "out_features": None, "out_indices": None}
_PYRAMID: dict[str, Any] = {"hidden_sizes": [16, 32], "depths": [1, 1], **_NO_STAGES}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("bert", "BertForMaskedLM", {}),
    "bert-class": ("bert", "BertForSequenceClassification", {}),
    "roberta": ("roberta", "RobertaForMaskedLM", {}),
    "deberta-v2": ("deberta-v2", "DebertaV2ForMaskedLM", {"relation_attn": None}),
    "modernbert": ("modernbert", "ModernBertForMaskedLM", {}),
    "electra": ("electra", "ElectraForMaskedLM", {}),
    "bert-decoder": ("bert", "BertLMHeadModel", {"is_decoder": True}),
    "llama-bias": ("llama", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "granitemoehybrid-dense": (
        "granitemoehybrid",
        "GraniteMoeHybridForCausalLM",
        {"layer_types": ["attention"] * 3, "num_local_experts": 0},
    ),
    "gemma4_moe_text": (
        "gemma4_text",
        "Gemma4ForCausalLM",
        {**_GEMMA4, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 64},
    ),
    "glm4v": ("glm4v", "Glm4vForConditionalGeneration", _WITH_VISION),
    "qwen3_vl_moe": ("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", _WITH_VISION),
    "qwen2_vl": (
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {**_WITH_VISION, "vision_config": {**_VISION, "hidden_size": 64}},  # that of the language model
    ),
    "qwen2_5_vl": (
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        _WITH_VISION,
    ),
    "qwen3_vl": ("qwen3_vl", "Qwen3VLForConditionalGeneration", _WITH_VISION),
    "qwen3_5": ("qwen3_5", "Qwen3_5ForConditionalGeneration", _FOUR_WITH_VISION),
    "qwen3_5_moe": (
        "qwen3_5_moe",
        "Qwen3_5MoeForConditionalGeneration",
        _FOUR_WITH_VISION,
    ),
    "gemma3": (
        "gemma3",
        "Gemma3ForConditionalGeneration",
        {"text_config": _MARKED | _FOUR, "mm_tokens_per_image": 4},
    ),
    "gemma4": ("gemma4", "Gemma4ForConditionalGeneration", {"text_config": _GEMMA4}),
    "llama4": (
        "llama4",
        "Llama4ForConditionalGeneration",
        {
            "text_config": _FOUR,
            "vision_config": {
                "intermediate_size": 256,
                "projector_input_dim": 64,
                "projector_output_dim": 64,
                "vision_output_dim": 64,
            },
        },
    ),
    "llava": ("llava", "LlavaForConditionalGeneration", {"text_config": _MARKED}),
    "idefics3": ("idefics3", "Idefics3ForConditionalGeneration", {"text_config": _MARKED}),
    "smolvlm": ("smolvlm", "SmolVLMForConditionalGeneration", {}),
    "paligemma": ("paligemma", "PaliGemmaForConditionalGeneration", {"text_config": _MARKED}),
    "mistral3": ("mistral3", "Mistral3ForConditionalGeneration", {}),
    "internvl": ("internvl", "InternVLForConditionalGeneration", {"text_config": _MARKED}),
    "qwen2_audio": ("qwen2_audio", "Qwen2AudioForConditionalGeneration", {}),
    "voxtral": ("voxtral", "VoxtralForConditionalGeneration", {}),
    "t5": ("t5", "T5ForConditionalGeneration", {"decoder_start_token_id": 0, "num_decoder_layers": 3}),
    "bart": ("bart", "BartForConditionalGeneration", {}),
    "marian": ("marian", "MarianMTModel", {}),
    "t5gemma": ("t5gemma", "T5GemmaForConditionalGeneration", {"encoder": _T5GEMMA, "decoder": _T5GEMMA}),
    "xlm-roberta-base": ("xlm-roberta", "XLMRobertaModel", {}),
    "wav2vec2": ("wav2vec2", "Wav2Vec2ForCTC", {"conv_dim": [32] * 7, "num_conv_pos_embedding_groups": 4}),
    "whisper": ("whisper", "WhisperForConditionalGeneration", {}),
    "vit": ("vit", "ViTForImageClassification", {}),
    "vit-features": ("vit", "ViTModel", {}),
    "dinov2": ("dinov2", "Dinov2Model", _NO_STAGES),
    "dinov2-class": ("dinov2", "Dinov2ForImageClassification", _NO_STAGES),
    "dinov3_vit": ("dinov3_vit", "DINOv3ViTModel", _NO_STAGES),
    "deit": ("deit", "DeiTForImageClassificationWithTeacher", {}),
    "beit": ("beit", "BeitForImageClassification", _NO_STAGES),
    "siglip": ("siglip", "SiglipModel", {"text_config": {"max_position_embeddings": 64, "projection_size": 64}}),
    "siglip-vision": ("siglip_vision_model", "SiglipVisionModel", {}),
    "clip": ("clip", "CLIPModel", {"text_config": {"max_position_embeddings": 64, "eos_token_id": 3}}),
    "clip-vision": ("clip_vision_model", "CLIPVisionModel", {}),
    "resnet": ("resnet", "ResNetForImageClassification", _PYRAMID),
    "qwen3-embedding": ("qwen3", "Qwen3Model", {}),
}
"""name -> (model type, class, what its config has beside `zoo_sizes.SMALL`)"""
