"""The numerical primitives that blocks are built on, one file each.

Every op has a plain form, which is its equation, and a fast form; they are tested against each other.
"""
