"""Models as ONNX files that need no PyTorch (extra ``onnx``)."""
