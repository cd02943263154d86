"""Runtimes: what runs a model when it is timed, one file each; `base` has the contract and the registry."""
