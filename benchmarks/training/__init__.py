"""Benchmarks of training: what it costs, and what it reaches."""
