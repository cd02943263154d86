"""Where candidates are scored: `local` in this process, `ray` on actors; `base` is the contract."""
