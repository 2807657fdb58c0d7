"""Routines close to the hardware: CUDA graphs and streams, batched Cholesky, robust SVD."""
