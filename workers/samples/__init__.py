"""Samples of models that are asked on more than a run of tokens: texts, pairs, sound, images."""
