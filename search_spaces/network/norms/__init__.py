"""Norms of the residual stream, one file each; see `norms.base` for their contract."""
