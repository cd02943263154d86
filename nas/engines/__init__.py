"""Engines, one file each: see `nas.engines.base`. A new file here is a new `--engine`."""
