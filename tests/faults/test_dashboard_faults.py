"""The dashboard under requests that its pages never send: each is answered with a status, none with a bug."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboards.app.requests import CALLBACK, LARGEST_BODY, Names
from dashboards.app.server import make_app
from nas.store import Store
from tests.dashboards.made import make_study
from tests.dashboards.sent import callback, every_callback, page_at, post
from tests.forks import Fork, nas_command, until

FRONT = "..front-plot.figure...front-line.children...front-best.children...front-seen.data.."
REFUSALS = (400, 403, 404, 405, 413, 421)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dashboard") / "studies.db"
    with Store(path) as opened:
        make_study(opened, "full", trials=20)
    return path


@pytest.fixture(scope="module")
def client(store: Path) -> FlaskClient:
    return make_app(store, allow_hosts=["lab.example"]).server.test_client()


@pytest.fixture(scope="module")
def whole(client: FlaskClient) -> list[dict[str, Any]]:
    """What the pages send, every callback of every page."""
    return every_callback(client, "full")


def test_what_pages_send_is_answered(client: FlaskClient, whole: list[dict[str, Any]]) -> None:
    for body in whole:
        assert post(client, body).status_code == 200, body
    known = client.get("/_dash-dependencies").get_json()
    asked = {each["output"] for each in known if each["clientside_function"] is None}
    assert asked == {body["output"] for body in whole}
    for path in ("/", "/study/full", "/_dash-layout", "/_dash-dependencies", "/_favicon.ico"):
        assert client.get(path).status_code == 200, path
    page = client.get("/").get_data(as_text=True)
    for source in re.findall(r'(?:src|href)="(/_[^"]+)"', page):
        assert client.get(source).status_code == 200, source


@pytest.mark.parametrize(
    ("host", "status"),
    [(name, 200) for name in ("localhost", "LOCALHOST:8050", "127.0.0.1:1", "[::1]:8050", "lab.example:80")]
    + [
        (name, 421)
        for name in (
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8050",
            "10.0.0.1",
            "",
            "localhost@evil.example",
            "[::2]",
            "evil.example:localhost",
            "\x00",
            "localhost\t",
            "é",
            "a" * 9000,
        )
    ],
)
def test_only_its_own_names_are_served(client: FlaskClient, host: str, status: int) -> None:
    for path in ("/", "/_dash-layout", "/nowhere"):
        answer = client.get(path, environ_overrides={"HTTP_HOST": host})
        assert answer.status_code == (404 if status == 200 and path == "/nowhere" else status)
        assert status == 200 or len(answer.get_data(as_text=True).splitlines()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_on_all_addresses_any_number_is_served_but_no_name(host: str) -> None:
    names = Names(host, ["lab.example"])
    for known in ("192.168.1.7:8050", "[fe80::1]:8050", "localhost", "lab.example"):
        assert known in names
    assert "rebound.example:8050" not in names


@pytest.mark.parametrize(
    "headers",
    [{"Origin": origin} for origin in ("https://evil.example", "null", "http://localhost:1", "http://[", "é")]
    + [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}],
)
def test_pages_of_other_sites_send_nothing(
    client: FlaskClient, whole: list[dict[str, Any]], headers: dict[str, str]
) -> None:
    for body in whole:
        answer = post(client, body, headers=headers)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_our_own_pages_do(client: FlaskClient) -> None:
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.post(CALLBACK, json=page_at("/study/full"), headers=headers).status_code == 200
    assert client.options(CALLBACK, headers={"Origin": "https://evil.example"}).headers.get("Vary") is None


@pytest.mark.parametrize("path", ["/", "/nowhere", "/_dash-layout", CALLBACK])
def test_every_answer_has_headers_that_keep_it_apart(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert not [name for name in headers if name[0].startswith("Access-Control")]


def test_the_policy_allows_the_scripts_of_the_page_and_no_others(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    page = re.sub(r"<!--.*?-->", "", answer.get_data(as_text=True), flags=re.DOTALL)
    inline = re.findall(r"<script(?![^>]*(?:src=|application/json))[^>]*>(.*?)</script>", page, re.DOTALL)
    assert len(inline) > 2
    for script in inline:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


NOWHERE = (
    *("/assets/cli.py", "/static/cli.py", "/etc/passwd", "/_reload-hash", "/_alive_", "/study"),
    *("/%00", "/..", "/%2e%2e/x", "/%ff%fe", "/" + "a" * 60000),
    *(
        f"/_dash-component-suites/{path}"
        for path in ("x", "os/path.py", "dash/nope.js", "dash/../../../etc/passwd", "dash/%00.js")
    ),
)


@pytest.mark.parametrize(
    ("path", "status"),
    [(CALLBACK, 405), *((path, 404) for path in NOWHERE)],
)
def test_there_is_nothing_else(client: FlaskClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert len(answer.get_data(as_text=True).splitlines()) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "GETT", "POST"])
def test_other_methods_are_refused(client: FlaskClient, method: str) -> None:
    for path in ("/", CALLBACK, "/study/full", "/_dash-layout"):
        if (method, path) != ("POST", CALLBACK):
            assert client.open(path, method=method).status_code in (404, 405)


BROKEN = {
    "nothing": b"",
    "half": b'{"output": "page.chi',
    "no text": b"\xff\xfe\x00",
    "a null byte": b'{"output": "page.children\x00"}',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a number of many digits": b"1" * 100_000,
    "a list": b"[]",
    "a word": b'"page.children"',
    "not a number": b"NaN",
    "another coding": '{"output": "page.children"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_bodies_that_are_no_callback(client: FlaskClient, body: bytes) -> None:
    assert client.post(CALLBACK, data=body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data; boundary=", "application/xml", "é"])
def test_other_kinds_of_content(client: FlaskClient, kind: str) -> None:
    body = json.dumps(page_at("/study/full"))
    assert client.post(CALLBACK, data=body, content_type=kind).status_code == 400


def test_a_body_too_large_is_not_read(client: FlaskClient) -> None:
    body = b'{"output": "' + b"x" * LARGEST_BODY + b'"}'
    assert client.post(CALLBACK, data=body, content_type="application/json").status_code == 413


@pytest.mark.parametrize(
    "output",
    [
        "",
        "nothing.here",
        "scheme.data",
        "page",
        "page.children.",
        "..page.children..",
        FRONT[2:],
        None,
        3,
        ["x"],
    ],
)
def test_outputs_that_nobody_has(client: FlaskClient, output: Any) -> None:
    assert client.post(CALLBACK, json={**page_at("/study/full"), "output": output}).status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_any_part_of_a_callback_may_be_anything(
    client: FlaskClient, whole: list[dict[str, Any]], data: st.DataObject
) -> None:
    body: Any = deepcopy(data.draw(st.sampled_from(whole)))
    place, name = body, data.draw(st.sampled_from(sorted(body)))
    while isinstance(place[name], dict | list) and place[name] and data.draw(st.booleans()):
        place = place[name]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        name = data.draw(st.sampled_from(keys))
    if data.draw(st.booleans()) or isinstance(place, list):
        place[name] = data.draw(JSON)
    else:
        del place[name]
    answer = post(client, body)
    assert answer.status_code in (200, 204, *REFUSALS), (body, answer.get_data(as_text=True))


@FUZZ
@given(
    path=st.text(max_size=30), query=st.binary(max_size=30), inside=st.sampled_from(("/", "/study/", "/_"))
)
def test_any_path_and_query(client: FlaskClient, path: str, query: bytes, inside: str) -> None:
    environment = {"PATH_INFO": inside + path.encode("utf-8", "replace").decode("latin-1")}
    answer = client.get("/", environ_overrides={**environment, "QUERY_STRING": query.decode("latin-1")})
    assert answer.status_code in (200, 304, 308, *REFUSALS)
    assert post(client, page_at(inside + path)).status_code in (200, 400)


# a real process


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Fork, int, Path]]:
    path = tmp_path / "studies.db"
    with Store(path) as opened:
        make_study(opened, "full", trials=3, complete=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    fork = nas_command("dashboard", "--store", str(path), "--port", str(port))
    until(lambda: answers(port), fork)
    yield fork, port, path
    if fork.alive:
        fork.kill()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def asked(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    answer.read()
    return answer


def said(port: int, raw: bytes) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(raw)
        with suppress(OSError):  # it has answered and hung up before
            line.shutdown(socket.SHUT_WR)
        try:
            return b"".join(iter(lambda: line.recv(65536), b""))
        except ConnectionResetError:
            return b""


RAW = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no version": b"GET /\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a rebound name": b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "an absolute path": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a path of nothing": b"GET  HTTP/1.1\r\n\r\n",
    "null bytes": b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half percents": b"GET /%zz%f HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without end": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "a length that is no number": b"POST /_dash-update-component HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: many\r\n\r\n{}",
    "a length below zero": b"POST /_dash-update-component HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: -5\r\n\r\n{}",
    "a body that ends early": b"POST /_dash-update-component HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
    "broken chunks": b"POST /_dash-update-component HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
}


def test_a_real_server_stands_what_comes_in(served: tuple[Fork, int, Path]) -> None:
    fork, port, path = served
    assert asked(port, "GET", "/").status == 200
    for name, raw in RAW.items():
        answer = said(port, raw)
        status = re.match(rb"HTTP/1\.[01] (\d+)", answer)
        assert status is None or status[1].startswith(b"4"), (name, answer[:200])
    headers = {"Content_Type": "application/json"}
    assert asked(port, "POST", CALLBACK, b"x" * 100_000_000, **headers).status == 413
    assert asked(port, "POST", CALLBACK, b"[" * 100_000, **headers).status == 400
    path.unlink()
    list_of_studies = callback(
        "..studies-list.children...studies-seen.data..",
        {"studies-poll.n_intervals": 1, "studies-find.value": None, "studies-order.value": None},
        {"studies-seen.data": None},
    )
    assert asked(port, "POST", CALLBACK, json.dumps(list_of_studies).encode(), **headers).status == 200
    assert asked(port, "GET", "/").status == 200
    fork.send(signal.SIGINT)
    ended = fork.wait()
    assert "Traceback" not in ended.stderr, ended.stderr
    assert len(ended.stderr.splitlines()) <= len(RAW) + 5, ended.stderr
    assert ended.returncode in (0, 130)


def test_the_campaign_closes_the_port_that_it_takes() -> None:
    words = [sys.executable, "-W", "error", "-c", "import tests.faults.cases.dashboard"]
    assert subprocess.run(words, capture_output=True, check=True).stderr == b""
