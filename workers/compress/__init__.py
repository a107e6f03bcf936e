"""Compression as pure functions: a weight and its statistics in, packed tensors and their error out.

Shape legend: O out_features, I in_features, G groups per row, K kept values per row, R rank, L levels at once,
N = L * O stacked rows. Hessians are (I, I) sums of x xᵀ over calibration tokens, float32.
"""
