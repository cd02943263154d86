"""Benchmarks of the one-shot engines: each is a command of its own, `python -m benchmarks.oneshot.NAME`."""
