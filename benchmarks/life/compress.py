"""What compression costs trained networks, in bits per byte, at what size.

    python -m benchmarks.life.compress FOLDER...

Each network, an exported folder, is compressed by one modifier at a time, with its defaults but for what is
named. The change of the score is a mean of differences on the same windows.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import keep, show
from nas.modification import ModificationSettings, modify

COMMAND = "python -m benchmarks.life.compress"
MODIFIERS = (
    *(f"quantize,bits={bits},method={method}" for bits in (4, 3, 2) for method in ("nearest", "gptq", "awq")),
    *(f"allocate,like={bits}" for bits in (4, 3, 2)),
    "quantize,bits=8,group=65536,activations=8,state=8",
    *(f"prune,method={method}" for method in ("magnitude", "wanda", "sparsegpt")),
    "allocate,of=sparsity",
    *(f"prune,pattern=2:4,method={method}" for method in ("magnitude", "wanda", "sparsegpt")),
)


def compressed(name: str, folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """A row for each modifier of one network."""
    settings, rows = ModificationSettings(), list[dict[str, Any]]()
    for text in MODIFIERS:
        (done,) = modify(str(folder), [text], scratch, settings, force=True)
        before, (change, error) = done.before["bits_per_byte"]["value"], done.difference
        rows.append(
            {
                "network": name,
                "modifier": text,
                "bits per byte": before,
                "change": change,
                "error": error,
                "not zero": done.after["nonzero"],
                "bytes": done.after["weight_bytes"],
            }
        )
    return rows


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for folder in parser.parse_args().folders:
            rows += compressed(folder.name, folder, Path(scratch, "out"))
            show(folder.name, [row for row in rows if row["network"] == folder.name])
    keep("compress", f"{COMMAND} FOLDER...", rows)


if __name__ == "__main__":
    main()
