"""Networks on devices: ONNX Runtime's providers behind one class, and what truly runs on this machine."""
