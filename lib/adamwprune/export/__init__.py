"""A trained, pruned network as a file without its zeros, or as ONNX."""
