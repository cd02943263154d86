"""The command `nas` as `python -m nas`."""

from __future__ import annotations

from nas.start import main

if __name__ == "__main__":
    main()
