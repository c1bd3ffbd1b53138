"""Benchmarks: two or more ways of doing the same thing, interleaved in one run, and the ratios between them.

Nothing is imported here: a load generator's process must not wait for torch.
"""
