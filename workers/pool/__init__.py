"""Executors: the contract, the one in this process, Ray."""
