"""Measured claims: every figure in README and docs comes from a file under `benchmarks/results`.

`python -m benchmarks` runs them all on this machine; `python -m benchmarks search_loop` runs one. Absolute
times mean little on a shared machine: what is claimed are ratios within one run.
"""
