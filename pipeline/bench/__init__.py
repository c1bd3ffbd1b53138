"""Benchmarks: two or more ways of doing the same thing, interleaved in one run, and the ratios between them."""

from pipeline.bench.training import bench_training

__all__ = ["bench_training"]
