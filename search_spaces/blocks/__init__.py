"""Blocks, one file each; `search_spaces.blocks.base` states the contract.

To add one, put a file here that defines a `Block` with `@blocks.add`. Everything about it is declared there:
the axes of its parameters that may be sorted (`layout`), what the large space offers of it (`open_forms`),
and, if it is from a paper, the independent implementation that it is checked against
(`search_spaces.references.reference`). The contract tests run over it at once; no other file is edited.
"""
