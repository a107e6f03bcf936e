"""Mixtures of experts: a small one is trained, and its experts are searched tied and apart."""
