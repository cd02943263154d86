"""Options of a layer beside its blocks and bits, one file each; see `options.base` for their contract."""
