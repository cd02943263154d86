"""Blocks, one file each: see `search_spaces.blocks.base` for what a block promises.

To add one, put a file here that defines a `Block` with `@blocks.add`; the contract tests find it.
"""
