"""Families of published models, one file each: what transformers calls them, and what they are here.

A family is a table that is read in both directions (`families.base`). It says which key of a configuration
is which field of a block, and which tensor of a checkpoint is which parameter. A file in this folder that
adds its table to `families` is all that a new family needs.
"""
