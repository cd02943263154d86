"""Strategies, one file each: see `nas.strategies.base`. A new file here is a new `--strategy`."""
