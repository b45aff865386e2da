"""What the machine has, and the libraries that speak to it.

cuda: NVIDIA's driver: GPUs, streams, events and memory, by libcuda; figures of nvidia-smi.
host: CPU, cores and memory, the machine's fingerprint and state, and how busy others keep it.
tensorrt: the Python bindings of TensorRT's two families.
tpu: whether there is a TPU.
"""
