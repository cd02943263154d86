"""Converted programs, kept by what they depend on: making one takes seconds to minutes.

    path = kept({"program": "step", "network": ..., "onnxruntime": "1.32.0"}, ".onnx", write)

They lie in `exports` of the cache folder (`foundation.cache`), which may be removed at any time. What cannot
be converted is kept as well, as its reason: otherwise every question for it would take as long again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from foundation.cache import cache_folder
from foundation.errors import NoFile, ProfileError
from foundation.files import read_bytes, replacing, write_atomically

REASON_BYTES = 2**14


def kept(key: Mapping[str, Any], suffix: str, write: Callable[[Path], None]) -> Path:
    """The file that `write` makes, or made before, for this key of plain values.

    Raises:
        ProfileError: it cannot be made, now or before.
        FileError: the cache cannot be written.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / "exports" / f"{digest}{suffix}"
    refused = path.with_suffix(".refused")
    if path.exists():
        return path
    try:
        raise ProfileError(read_bytes(refused, at_most=REASON_BYTES).decode())
    except NoFile:
        pass
    try:
        with replacing(path) as scratch:
            write(scratch)
    except ProfileError as error:
        write_atomically(refused, str(error))
        raise
    return path


def weights_digest(model: nn.Module) -> str:
    """What the values of all parameters hash to."""
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
