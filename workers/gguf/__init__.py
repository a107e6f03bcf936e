"""GGUF files, and the runtime that loads them: llama.cpp's names, fields and tokenizers."""
