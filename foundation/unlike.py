"""In what a record from a file is unlike the one that is expected, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from foundation.text import listed


def unlike(found: Any, expected: Mapping[str, Any]) -> str:
    """`another batch and another seed`; empty where a record has all that is expected, as JSON holds it."""
    plain = json.loads(json.dumps(expected))
    here = found if isinstance(found, Mapping) else {}
    return listed(f"another {name}" for name in sorted(plain) if here.get(name, ...) != plain[name])
