"""The token of a Ray cluster: shown to a cluster that wants one, and to no other.

Ray shows a token where `RAY_AUTH_MODE=token` is set, and else to none but the cluster of this machine. Then a
cluster that wants one does not answer, and where one is shown to a cluster that wants none, its workers end
as they start. So the head is asked first, which takes milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._raylet import (  # type: ignore[attr-defined]  # a module of C++
    AuthenticationTokenLoader,
    Config,
    GcsClient,
)
from ray.exceptions import AuthenticationError

from foundation.errors import SettingError

MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
USUAL_FILE = "~/.ray/auth_token"
WITH, WITHOUT = "token", "disabled"
"""What the mode may be."""

SECONDS = 5.0
"""How long the head may take to answer."""


@contextmanager
def token_for(address: str) -> Iterator[None]:
    """Within this, Ray shows the head at an address the token that it wants, if it wants one.

    Raises:
        SettingError: it wants a token that is not here, or none where `RAY_AUTH_MODE` demands one.
    """
    asked = os.environ.get(MODE)
    try:
        os.environ[MODE] = _mode_for(address, (asked or "").lower())
        Config.initialize("")  # which keeps the mode that it found first
        yield
    finally:
        if asked is None:
            os.environ.pop(MODE, None)
        else:
            os.environ[MODE] = asked


def _mode_for(address: str, asked: str) -> str:
    """The mode in which a head answers; `asked` is the one that the user set, if any."""
    AuthenticationTokenLoader.instance().reset_cache()
    if _answers(address, WITHOUT):
        if asked in ("", WITHOUT):
            return WITHOUT
        raise SettingError(
            f"it wants no token, though {MODE}={asked} is set here: whoever reaches it can run code on it;"
            f" unset {MODE} to join it nevertheless"
        )
    if asked == WITHOUT:
        raise SettingError(f"it wants a token, and {MODE}={WITHOUT} is set here: unset it")
    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        raise SettingError(
            f"it wants a token: put it into {TOKEN}, or into {USUAL_FILE} (there, on the head,"
            " `ray get-auth-token` prints it)"
        )
    if not _answers(address, WITH):
        raise SettingError(f"it wants another token than that of {place()}")
    return WITH


def _answers(address: str, mode: str) -> bool:
    """Whether the head answers to whom asks in this mode."""
    os.environ[MODE] = mode
    Config.initialize("")
    try:
        GcsClient(address=address).internal_kv_get(b"", None, timeout=SECONDS)
    except AuthenticationError:
        return False
    return True


def read_anew() -> None:
    """Have Ray, which keeps what it found, look for mode and token again as the processes it starts will."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def place() -> str:
    """Where the token comes from, in the order in which Ray looks for it."""
    if os.environ.get(TOKEN):
        return TOKEN
    file = os.environ.get(TOKEN_FILE)
    return f"{TOKEN_FILE} ({file})" if file else str(Path(USUAL_FILE))
