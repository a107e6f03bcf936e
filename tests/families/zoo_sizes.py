"""Sizes of the zoo's models, by the names that configs have for them, and marks of images in its tokenizer."""

from typing import Any

VOCABULARY = 4096
"""rows of the bundled model's tokenizer, which all models of the zoo have"""
_WIDTHS = {
    64: (
        *("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "word_embed_dim", "embedding_size", "embed_dim"),
        *("projection_dim", "out_hidden_size", "lru_width", "conv_dim", "attention_hidden_size"),
        *("moe_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"),
        *("shared_intermediate_size", "expert_ffn_hidden_size", "moe_shared_intermediate_size", "context_length"),
        *("sliding_window", "attention_window_size", "attention_chunk_size", "window_size"),
        *("max_source_positions", "max_target_positions", "o_lora_rank"),
    ),
    128: (
        *(
            "intermediate_size",
            "n_inner",
            "ffn_dim",
            "d_ff",
            "intermediate_size_mlp",
            "ffn_hidden_size",
            "block_ff_dim",
        ),
        *(
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "mamba_d_ssm",
            "ffn_intermediate_size",
            "mlp_hidden_size",
        ),
    ),
    512: ("max_position_embeddings", "n_positions", "max_seq_len"),
    32: ("q_lora_rank", "kv_lora_rank", "qk_head_dim", "mamba_chunk_size", "chunk_size", "index_topk", "image_size"),
    16: (
        *("head_dim", "d_kv", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "rotary_dim", "num_mel_bins"),
        *("state_size", "ssm_state_size", "mamba_d_head", "mamba_d_state", "mamba_head_dim", "linear_key_head_dim"),
        *("linear_value_head_dim", "hidden_size_per_layer_input", "index_head_dim", "global_head_dim", "swa_head_dim"),
        *("swa_v_head_dim", "query_pre_attn_scalar"),
    ),
    8: (
        *("time_step_rank", "mamba_n_heads", "mamba_dt_rank", "mamba_num_heads", "laurel_rank", "patch_size"),
        *("num_heads_per_group",),
    ),
    4: (
        *("num_attention_heads", "n_head", "num_heads", "num_experts", "num_local_experts", "n_routed_experts"),
        *("moe_num_experts", "encoder_attention_heads", "decoder_attention_heads", "linear_num_value_heads"),
        *("swa_num_attention_heads", "o_groups"),
    ),
    3: ("num_hidden_layers", "n_layer", "num_layers", "in_channels"),
    2: (
        *(
            "num_key_value_heads",
            "num_experts_per_tok",
            "num_experts_per_token",
            "moe_topk",
            "moe_k",
            "encoder_layers",
            "decoder_layers",
        ),
        *("expand", "mamba_expand", "linear_num_key_heads", "num_global_key_value_heads", "depth", "index_n_heads"),
        *("spatial_merge_size", "swa_num_key_value_heads"),
    ),
    1: (
        *("n_shared_experts", "moe_num_shared_experts", "num_shared_experts", "first_k_dense_replace", "n_group"),
        *("topk_group", "num_expert_group", "mamba_n_groups", "n_groups", "zero_expert_num", "moe_layer_start_index"),
        *("scale_depth", "num_logits_to_keep"),
    ),
    0: (*("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "num_kv_shared_layers"),),
    VOCABULARY: ("vocab_size", "vocab_size_per_layer_input"),
}
IMAGE_MARKS = {
    "image_token": "<image>",
    "context_image_token": "<image>",
    "video_token": "<video>",
    "boi_token": "<boi>",
    "eoi_token": "<eoi>",
    "vision_start_token": "<vision_start>",
    "vision_end_token": "<vision_end>",
    "start_image_token": "<vision_start>",
    "end_image_token": "<vision_end>",
    "fake_image_token": "<fake_token_around_image>",
    "end_of_utterance_token": "<end_of_utterance>",
    "global_image_token": "<global-img>",
}
"""special tokens of models that see images, by the names that their processors have for them"""
_MARKS = {mark: VOCABULARY + place for place, mark in enumerate(dict.fromkeys(IMAGE_MARKS.values()))}
SMALL: dict[str, Any] = {name: size for size, names in _WIDTHS.items() for name in names}
SMALL |= {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "block_auto_adjust_ff_dim": False,
    "use_mamba_kernels": False,
    "rope_local_base_freq": 10000.0,
    **dict.fromkeys(("image_token_id", "image_token_index"), _MARKS["<image>"]),
    "video_token_id": _MARKS["<video>"],
    "boi_token_index": _MARKS["<boi>"],
    "eoi_token_index": _MARKS["<eoi>"],
    **dict.fromkeys(("vision_start_token_id", "image_start_token_id"), _MARKS["<vision_start>"]),
    **dict.fromkeys(("vision_end_token_id", "image_end_token_id"), _MARKS["<vision_end>"]),
}
OF_DEPTH = {
    *("layer_types", "mlp_layer_types", "layers_block_type", "moe_layer_freq", "no_rope_layers", "moe_layers"),
    *("attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids", "hybrid_override_pattern", "per_layer_config"),
    *("activation_sparsity_pattern", "rope_parameters", "rope_scaling", "sliding_window_pattern"),
    *("transformers_version", "model_type", "architectures", "dtype", "torch_dtype", "id2label", "label2id"),
    "_attn_implementation",
}
"""what follows from sizes, and is left to the config's own code"""
KEPT_NONE = ("sliding_window", "pad_token_id", "word_embed_proj_dim", "num_shared_experts")
