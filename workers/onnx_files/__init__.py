"""ONNX files for ONNX Runtime: a decoder's graph, weights that stay packed in it, and the runtime that checks them."""
