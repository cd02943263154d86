"""What keeps two sides from being compared; such a comparison is left out, and the reason is given."""

from __future__ import annotations

from foundation.errors import SettingError


class NothingToCompare(SettingError):
    """Too few candidates, scores that are all the same, or two sides that are one and the same."""
