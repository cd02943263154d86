"""The door of a dashboard with a password: who may come in, and for how long.

    door = Door(read_password("password.txt"))
    protect(app, server, names, kinds=kinds, door=door)

Whoever knows the password gets a token of 256 random bits, in a cookie that scripts cannot read and that no
other site sends along. It is made at every login, so a token that somebody planted before is worth nothing;
only its digest is kept, until it ends or its reader leaves.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from html import escape
from pathlib import Path

from flask import Response, make_response, redirect, request

from foundation.errors import SettingError
from foundation.files import read_bytes

LOGIN, LOGOUT = "/login", "/logout"
COOKIE = "nas_session"

SHORTEST = 8
"""Characters of a password, at least: with the limit on wrong tries, guessing takes for ever."""

LARGEST_FILE = 4096
"""Bytes of a file with a password."""

HOURS = 12
"""How long a login lasts."""

MOST_SESSIONS = 1000
"""Logins that are known at once; a further one ends the oldest."""

TRIES, TRY_SECONDS = 5, 60.0
"""Wrong passwords from one address within this time, after which no more are looked at."""

MOST_ADDRESSES = 10_000
"""Addresses of which wrong tries are remembered."""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>nas: log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 22rem; margin: 18vh auto 0; padding: 0 1rem }}
label {{ display: block; margin-bottom: .3rem }}
input, button {{ font: inherit; padding: .4rem .6rem; width: 100%; box-sizing: border-box }}
button {{ margin-top: .8rem }}
</style></head><body><h1>nas</h1>
<form method="post" action="{action}"><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus>
<input name="to" type="hidden" value="{to}"><button>Log in</button></form>
<p role="alert">{told}</p></body></html>
"""


def read_password(path: str | Path) -> tuple[str, bool]:
    """The password in the first line of a file, and whether others than its owner may read the file.

    Raises:
        FileError: the file cannot be read.
        SettingError: its first line is no text or too short.
    """
    content = read_bytes(path, at_most=LARGEST_FILE)
    try:
        password = (content.decode().splitlines() or [""])[0].strip()
    except UnicodeDecodeError:
        raise SettingError(f"the password in {path} is not text in UTF-8") from None
    if len(password) < SHORTEST:
        raise SettingError(
            f"the first line of {path} must be a password of at least {SHORTEST} characters,"
            f" not of {len(password)}"
        )
    return password, bool(Path(path).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


class Door:
    """The logins of one dashboard. Threads may share it; `clock` counts seconds."""

    def __init__(self, password: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._password, self._clock = _digest(password), clock
        self._sessions: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self) -> Response | None:
        """The answer to a request that may not pass, or that logs in or out; None lets it pass."""
        token = request.cookies.get(COOKIE, "")
        if request.path == LOGOUT and request.method == "POST":
            self.leave(token)
            return self._to("/", "", 0)
        if request.path == LOGIN:
            return self._log_in(token) if request.method == "POST" else self._to("/", None, 0)
        if self.knows(token):
            return None
        if request.method in ("GET", "HEAD"):
            asked = request.full_path if request.query_string else request.path
            return _page(401, asked, "")
        return Response("401 log in first: load the page again\n", 401, mimetype="text/plain")

    def knows(self, token: str) -> bool:
        """Whether this is the token of a login that has not ended."""
        with self._lock:
            return self._sessions.get(_digest(token), -1.0) > self._clock()

    def enter(self, password: str, address: str) -> str | None:
        """A new token for the right password; None for a wrong one, or after too many of these."""
        where = _network(address)
        with self._lock:
            now = self._clock()
            recent = [then for then in self._wrong.get(where, []) if now - then < TRY_SECONDS]
            right = hmac.compare_digest(_digest(password), self._password)
            if len(recent) >= TRIES or not right:
                self._wrong[where] = [*recent, now][-TRIES:] if len(recent) < TRIES else recent
                self._wrong.move_to_end(where)
                while len(self._wrong) > MOST_ADDRESSES:
                    self._wrong.popitem(last=False)
                return None
            self._wrong.pop(where, None)
            token = secrets.token_urlsafe(32)
            self._sessions[_digest(token)] = now + 3600 * HOURS
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
            return token

    def leave(self, token: str) -> None:
        """End a login."""
        with self._lock:
            self._sessions.pop(_digest(token), None)

    def seconds_to_wait(self, address: str) -> int:
        """How long no password from here is looked at; 0 where it is."""
        with self._lock:
            now = self._clock()
            recent = [then for then in self._wrong.get(_network(address), []) if now - then < TRY_SECONDS]
        return int(TRY_SECONDS - (now - recent[0])) + 1 if len(recent) >= TRIES else 0

    def _log_in(self, former: str) -> Response:
        address = request.remote_addr or ""
        to, wait = _inside(request.form.get("to", "/")), self.seconds_to_wait(address)
        token = None if wait else self.enter(request.form.get("password", ""), address)
        if token is None and wait:
            page = _page(429, to, f"Too many wrong passwords: try again in {wait} seconds.")
            page.headers["Retry-After"] = str(wait)
            return page
        if token is None:
            return _page(401, to, "That is not the password.")
        self.leave(former)
        return self._to(to, token, 3600 * HOURS)

    def _to(self, place: str, token: str | None, seconds: int) -> Response:
        """Send the browser to a page, with another cookie where there is a token."""
        answer = make_response(redirect(place, 303))
        if token is not None:
            answer.set_cookie(
                COOKIE, token, max_age=seconds, httponly=True, samesite="Strict", secure=request.is_secure
            )
        return answer


def _page(status: int, to: str, told: str) -> Response:
    text = PAGE.format(action=LOGIN, to=escape(to), told=escape(told))
    answer = Response(text, status, mimetype="text/html")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _inside(place: str) -> str:
    """A place to go to, if it is one of this site; else the first page."""
    inside = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable()
    return place if inside and not place.startswith((LOGIN, LOGOUT)) else "/"


def _network(address: str) -> str:
    """Whose tries are counted together: an address, of version 6 those of one network of 64 bits."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((known, 64), strict=False)) if known.version == 6 else str(known)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
