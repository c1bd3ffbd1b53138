"""Benchmarks: two or more ways of doing the same thing, interleaved in one run, and the ratios between them."""

from pipeline.bench.training import bench_training
from pipeline.bench.verification import bench_verification

__all__ = ["bench_training", "bench_verification"]
