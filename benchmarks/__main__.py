"""`python -m benchmarks [NAME ...]`: run all benchmarks, or the named ones."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("search_loop", "supernet", "blocks", "learning_rates", "profiles", "memory")


def main(wanted: list[str]) -> int:
    """Run them in order; 2 for an unknown name."""
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        sys.stderr.write(f"unknown benchmark {unknown[0]!r}; known: {', '.join(NAMES)}\n")
        return 2
    for name in wanted or NAMES:
        import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
