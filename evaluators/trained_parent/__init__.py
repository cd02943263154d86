"""A space around a trained network: its weights, and what may stand in the place of its parts.

`filling` gives a supernet the weights of the network, `rounding` rounds its matrices with a look at their
inputs, `evaluator` makes both once, keeps them in a folder, and scores any network of the space.
"""
