"""Many adapters on one base, served in one batch (S-LoRA; Sheng et al. 2023, arXiv:2311.03285).

`rows` computes a pass whose rows have adapters of their own, `pool` keeps those that rows need in the
device's memory, `trial` finds out whether a network can have them, and `folders` reads them.
"""
