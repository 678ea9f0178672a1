"""Trained checkpoint -> ONNX bundle, proved equal to torch."""
