"""Formats that a network is exported to, one file each; `base` has the contract and the registry."""
