"""Callbacks as the pages of a dashboard send them, every one of every page: nobody lists them by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask.testing import FlaskClient

from dashboards.app.requests import CALLBACK
from dashboards.pages import pages
from dashboards.pages.base import address

COUNTS = ("n_clicks", "n_intervals")


def path_of(name: str, study: str) -> str:
    """The address of a page, of a study where it has one."""
    return address(name, study) if pages[name].of_study else address(name)


def callback(output: str, inputs: dict[str, Any], states: dict[str, Any]) -> dict[str, Any]:
    """The body of a callback; properties by name."""
    names = [name.rpartition(".") for name in output.strip(".").split("...")]
    outputs = [{"id": name, "property": field} for name, _, field in names]

    def sent(values: dict[str, Any]) -> list[dict[str, Any]]:
        split = [(*name.rpartition("."), value) for name, value in values.items()]
        return [{"id": name, "property": field, "value": value} for name, _, field, value in split]

    return {
        "output": output,
        "outputs": outputs if output.startswith("..") else outputs[0],
        "inputs": sent(inputs),
        "state": sent(states),
        "changedPropIds": list(inputs)[:1],
    }


def page_at(path: str) -> dict[str, Any]:
    """The callback that shows the page at an address."""
    return callback("page.children", {"where.pathname": path}, {"where.search": ""})


def sent_by(client: FlaskClient, path: str) -> list[dict[str, Any]]:
    """What the page at an address sends, its controls as they stand at first, each button pressed."""
    shown = client.post(CALLBACK, json=page_at(path)).get_json()
    held = {f"{part['id']}.{name}": value for part in _parts(shown) for name, value in part.items()}
    ids = {name.rpartition(".")[0] for name in held}
    held |= {"look.data": "light"}

    def values(given: list[dict[str, str]]) -> dict[str, Any]:
        names = [f"{each['id']}.{each['property']}" for each in given]
        return {name: held.get(name, 1 if name.endswith(COUNTS) else None) for name in names}

    bodies = []
    for known in client.get("/_dash-dependencies").get_json():
        needed = {each["id"] for each in (*known["inputs"], *known["state"])} - {"look"}
        if known["clientside_function"] is None and needed and needed <= ids:
            bodies.append(callback(known["output"], values(known["inputs"]), values(known["state"])))
    return [page_at(path), *bodies]


def every_callback(client: FlaskClient, study: str) -> list[dict[str, Any]]:
    """What all pages send, over one study."""
    return [body for name in pages for body in sent_by(client, path_of(name, study))]


def post(client: FlaskClient, body: Any, **more: Any) -> Any:
    """The answer to a callback."""
    return client.post(CALLBACK, data=json.dumps(body), content_type="application/json", **more)


def _parts(plain: Any) -> Iterator[dict[str, Any]]:
    """The properties of all components that have a name."""
    inner = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else ()
    if isinstance(plain, dict) and isinstance(plain.get("props"), dict) and "id" in plain["props"]:
        yield plain["props"]
    for each in inner:
        yield from _parts(each)
