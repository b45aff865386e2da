"""The machine: CPU, GPUs, TPU, and the TensorRT libraries that are installed."""
