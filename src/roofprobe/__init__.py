"""How fast memory, kernels and the link of NVIDIA GB10 machines are, and how far tensor parallelism can scale."""

__version__ = "0.1.0"
