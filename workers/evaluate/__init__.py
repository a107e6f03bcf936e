"""How good a plan is: KL divergence to the dense model and perplexity, on paired tokens."""
