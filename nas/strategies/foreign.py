"""Consent to strategies whose code others wrote, and which is fetched when it is asked for.

No name in a study, a store or a space file makes such code run: whoever starts a process that runs it is
asked once, or insists with `yes`.
"""

from __future__ import annotations

from foundation.errors import ConsentNeeded

FOREIGN = "optunahub:"
"""How the names of such strategies begin."""

_agreed = set[str]()


def require_consent(strategy: str, yes: bool) -> None:
    """Let this process run the code of a strategy, if that is agreed to; of the library's own it always may.

    Raises:
        ConsentNeeded: it is foreign, and nobody has agreed.
    """
    if not isinstance(strategy, str) or not strategy.startswith(FOREIGN) or strategy in _agreed:
        return
    if not yes:
        local = strategy.removeprefix(FOREIGN).startswith(("/", ".", "~"))
        whose = "of that folder" if local else "fetched from OptunaHub's registry"
        raise ConsentNeeded(
            f"the strategy {strategy} is Python {whose}, which runs with all your rights",
            instead="read it first",
        )
    _agreed.add(strategy)
