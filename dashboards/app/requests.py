"""What the dashboard answers at all: requests of its own pages, under its own names, well-formed.

A page of another site must not read studies: neither through a name of its own that it lets point at this
machine (DNS rebinding: the `Host` of such a request is that name), nor by sending callbacks (`Origin`), nor
in a frame. What is refused is answered with a status and one line, and told once in the terminal.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, TypeAlias
from urllib.parse import urlsplit

import dash
from dash.exceptions import DependencyException
from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, MisdirectedRequest, NotFound

from dashboards.app.login import Door
from dashboards.pages.base import STUDY

CALLBACK = "/_dash-update-component"
ANY_OTHER = "/<path:path>"
RULES = (
    "/",
    CALLBACK,
    "/_dash-layout",
    "/_dash-dependencies",
    "/_favicon.ico",
    "/_dash-component-suites/<string:package_name>/<path:fingerprinted_path>",
)
LARGEST_BODY = 2**20
"""Bytes of a request; the state that a page sends back takes some kilobytes."""

DEEPEST = 40
"""Brackets within brackets of a request."""

MOST_REPORTS = 100
"""Refusals that are told in the terminal; more would only bury what else is there."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without any, browsers send the form of the login without an origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Kinds: TypeAlias = Mapping[str, type]
"""What the properties of pages may hold; any may be None, and no others are sent."""


class Names:
    """The names under which the dashboard may be addressed: those of this machine, its own, and further ones.

    Where it listens on all addresses, any of them is as good: a number is no name that somebody can rebind.
    """

    def __init__(self, host: str, more: Collection[str] = ()) -> None:
        self.known = {_bare(name) for name in (*LOCAL_NAMES, host, *more)}
        self.any_number = _is_number(host) and ipaddress.ip_address(host).is_unspecified

    def __contains__(self, host: str) -> bool:
        name = _bare(host)
        return name in self.known or (self.any_number and _is_number(name))


def protect(
    app: dash.Dash,
    server: Flask,
    names: Names,
    *,
    kinds: Kinds,
    places: Collection[str] = (),
    door: Door | None = None,
) -> None:
    """Let only sound requests through to the app, which has all its callbacks by now.

    `kinds` say what its callbacks send, `places` are the first words of the addresses that it has. A `door`
    lets only those in who know its password.
    """
    server.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    # plotly draws clouds of many points by WebGL programs that it compiles here (unsafe-eval)
    scripts = " ".join(["'self'", "'unsafe-eval'", *app.csp_hashes()])
    forms = "'none'" if door is None else "'self'"
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; connect-src 'self';"
        " img-src 'self' data: blob:; font-src 'self' data:; base-uri 'none';"
        f" form-action {forms};"
        " frame-ancestors 'none'"
    )
    told: set[str] = set()

    def check() -> Response | None:
        _check_host(names)
        _check_origin()
        if door is not None and (answer := door.answer()) is not None:
            return answer
        _check_path(places)
        if request.path == CALLBACK and request.method == "POST":
            check_callback(app, _body(), kinds)
        return None

    def with_headers(response: Response) -> Response:
        response.headers.update({**HEADERS, "Content-Security-Policy": policy})
        if request.path == CALLBACK:
            response.headers["Cache-Control"] = "no-store"
        return response

    def refused(error: HTTPException) -> Response:
        answer = Response(f"{error.code} {error.description}\n", error.code, mimetype="text/plain")
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            answer.headers["Allow"] = ", ".join(error.valid_methods)
        line = f"nas: refused {request.method[:20]!r} {request.path[:80]!r}: {error.code} {error.description}"
        if line not in told and len(told) < MOST_REPORTS:
            told.add(line)
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        return answer

    # ours are the first: nothing of a request has been looked at before
    server.before_request_funcs.setdefault(None, []).insert(0, check)
    server.after_request(with_headers)
    server.register_error_handler(HTTPException, refused)
    server.register_error_handler(DependencyException, lambda error: refused(_not_found()))


def check_callback(app: dash.Dash, body: Any, kinds: Kinds) -> None:
    """Refuse (400) a callback that none of our pages sends: other outputs, inputs, or kinds of values."""
    if not isinstance(body, dict):
        refuse(400, "a callback is a JSON object")
    output = body.get("output")
    if not isinstance(output, str) or "callback" not in app.callback_map.get(output, {}):
        refuse(400, "there is no such callback")
    if body.get("outputs") != _outputs(output):
        refuse(400, f"the callback of {output} has other outputs")
    known = app.callback_map[output]
    for field, declared in (("inputs", known["inputs"]), ("state", known["state"])):
        given = body.get(field, [])
        if not isinstance(given, list) or [_property(each) for each in given] != [
            f"{each['id']}.{each['property']}" for each in declared
        ]:
            refuse(400, f"the callback of {output} has other {field}")
        for each in given:
            _check_value(_property(each), each.get("value"), kinds)
    changed = body.get("changedPropIds", [])
    inputs = [_property(each) for each in body.get("inputs", [])]
    if not isinstance(changed, list) or not all(each in inputs for each in changed):
        refuse(400, f"the callback of {output} is not called by such a change")


def refuse(status: int, why: str) -> NoReturn:
    """End a request with a status and one line."""
    abort(status, why)


def _check_host(names: Names) -> None:
    host = request.environ.get("HTTP_HOST", "")
    if host not in names:
        raise MisdirectedRequest(
            f"the dashboard is not served as {host[:80]!r}; `nas dashboard --allow-host NAME` adds a name"
        )


def _check_origin() -> None:
    """Only our own pages send anything; a program that is no browser names no origin."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin = request.headers.get("Origin")
    try:
        same = origin is None or urlsplit(origin).netloc.lower() == request.environ["HTTP_HOST"].lower()
    except ValueError:
        same = False
    if not same or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        refuse(403, "sent by a page of another site")


def _check_path(places: Collection[str]) -> None:
    """The pages, and what Dash serves for them; nothing else is there, and nothing from any folder.

    Where no rule fits, the server says so itself.
    """
    rule = str(request.url_rule) if request.url_rule else None
    if rule is None or rule in RULES or (rule == ANY_OTHER and _first_word(request.path) in places):
        return
    if request.path == CALLBACK:  # Dash would answer with the page
        raise MethodNotAllowed(["POST"], "callbacks are sent by POST")
    raise _not_found()


def _first_word(path: str) -> str:
    """The first word of an address that has another one behind it, or is a page by itself."""
    word, slash, rest = path.strip("/").partition("/")
    return word if word != STUDY or (slash and rest) else ""


def _body() -> Any:
    if request.mimetype != "application/json":
        refuse(400, "a callback is sent as application/json")
    try:
        body = json.loads(request.get_data(), parse_int=_integer)
    except (ValueError, RecursionError):
        refuse(400, "the callback is not JSON")
    if _deeper(body, DEEPEST):
        refuse(400, f"more than {DEEPEST} brackets within brackets")
    return body


def _integer(text: str) -> int:
    """An integer that no arithmetic ends on: those of our pages have 53 bits."""
    if abs(number := int(text)) >= 2**63:
        raise ValueError("an integer has at most 63 bits")
    return number


def _deeper(plain: Any, limit: int) -> bool:
    level = [plain]
    for _ in range(limit):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _outputs(output: str) -> Any:
    """What a page sends as the outputs of a callback: Dash writes several as ..a.b...c.d.. in its name."""
    names = [part.rpartition(".") for part in output.strip(".").split("...")]
    outputs = [{"id": name, "property": field} for name, _, field in names]
    return outputs if output.startswith("..") else outputs[0]


def _property(given: Any) -> str:
    return f"{given.get('id')}.{given.get('property')}" if isinstance(given, dict) else ""


def _check_value(name: str, value: Any, kinds: Kinds) -> None:
    kind = (int, float) if kinds[name] is float else kinds[name]
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        refuse(400, f"{name} is of another kind")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            refuse(400, f"{name} is no text")


def _not_found() -> HTTPException:
    return NotFound("there is no such page")


def _bare(host: str) -> str:
    """A host without its port and brackets."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name if name.count(":") > 1 else name.partition(":")[0]


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
