"""A dashboard with a password: nothing is seen without it, and no login can be guessed, planted or kept."""

from __future__ import annotations

import hmac
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from dashboards.app.login import COOKIE, HOURS, MOST_SESSIONS, TRIES, TRY_SECONDS, Door, read_password
from dashboards.app.server import make_app
from foundation.errors import FileError, SettingError

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def app(made_store: Path) -> Any:
    return make_app(made_store, password=PASSWORD)


@pytest.fixture
def client(app: Any) -> FlaskClient:
    client: FlaskClient = app.server.test_client()
    client.environ_base["REMOTE_ADDR"] = "198.51.100.7"
    return client


def log_in(client: FlaskClient, password: str = PASSWORD, to: str = "/", **more: Any) -> Any:
    return client.post("/login", data={"password": password, "to": to}, **more)


@pytest.mark.parametrize(
    "path",
    ["/", "/study/full", "/_dash-layout", "/_dash-dependencies", "/_favicon.ico", "/nothing"],
)
def test_nothing_is_seen_without_the_password(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert 'name="password"' in answer.text
    assert "full" not in answer.text.replace("/study/full", "")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "form-action 'self'" in answer.headers["Content-Security-Policy"]


def test_no_script_and_no_callback_either(client: FlaskClient, app: Any) -> None:
    index = re.findall(r'src="(/_dash-component-suites/[^"?]+)', app.index())
    assert index
    assert client.get(index[0]).status_code == 401
    answer = client.post("/_dash-update-component", data=json.dumps({"output": "page.children"}))
    assert answer.status_code == 401


def test_the_password_opens_every_page_until_one_leaves(client: FlaskClient) -> None:
    answer = log_in(client, to="/study/full?x=params&pick=3")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/study/full?x=params&pick=3")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/study/full").status_code == 200
    assert client.get("/login").headers["Location"] == "/"
    kept = client.get_cookie(COOKIE)
    assert kept is not None
    assert client.post("/logout").status_code == 303
    assert client.get("/study/full").status_code == 401
    client.set_cookie(COOKIE, kept.value)
    assert client.get("/study/full").status_code == 401


@pytest.mark.parametrize("given", ["", "Open sesame", "open sesame ", "open", PASSWORD * 1000, "\x00", "ü"])
def test_a_wrong_password_opens_nothing(app: Any, given: str) -> None:
    client = app.server.test_client()
    client.environ_base["REMOTE_ADDR"] = f"203.0.113.{len(given) % 200 + ord((given or ' ')[0]) % 50}"
    answer = log_in(client, given)
    assert answer.status_code == 401
    assert "not the password" in answer.text
    assert "Set-Cookie" not in answer.headers
    assert client.get("/").status_code == 401


def test_a_token_that_was_planted_is_worth_nothing(client: FlaskClient) -> None:
    client.set_cookie(COOKIE, "planted")
    assert client.get("/").status_code == 401
    log_in(client)
    first = client.get_cookie(COOKIE)
    assert first is not None
    assert first.value != "planted"
    log_in(client)
    second = client.get_cookie(COOKIE)
    assert second is not None
    assert second.value != first.value
    client.set_cookie(COOKIE, first.value)
    assert client.get("/").status_code == 401, "the former login has ended"


@pytest.mark.parametrize(
    "to", ["//evil.example", "/\\evil.example", "https://evil.example/", "evil", "/a\r\nX: y", "/login", ""]
)
def test_a_login_leads_to_no_other_site(client: FlaskClient, to: str) -> None:
    answer = log_in(client, to=to)
    assert answer.headers["Location"] == "/"
    assert "X" not in answer.headers


def test_the_page_of_the_login_holds_no_markup_of_the_address(client: FlaskClient) -> None:
    answer = client.get("/study/full", query_string='x="><script>alert(1)</script>')
    assert "<script" not in answer.text


def test_another_site_cannot_log_in_or_out(client: FlaskClient) -> None:
    answer = log_in(client, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert log_in(client).status_code == 303
    assert client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/").status_code == 200


def test_a_name_of_another_site_reaches_no_login(client: FlaskClient) -> None:
    """A page that lets its own name point at this machine could guess passwords from the inside."""
    for method, path in (("GET", "/"), ("GET", "/login"), ("POST", "/login"), ("POST", "/logout")):
        answer = client.open(path, method=method, headers={"Host": "rebound.example"})
        assert answer.status_code == 421, (method, path)


def test_passwords_are_compared_in_a_time_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of one length, by a comparison that looks at all of them, whatever was given."""
    compared: list[tuple[int, int]] = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append((len(given), len(known)))
        return hmac.compare_digest(given, known)

    monkeypatch.setattr("dashboards.app.login.hmac", SimpleNamespace(compare_digest=compare))
    door = Door(PASSWORD)
    assert [door.enter(given, given) is not None for given in ("", "o", "x" * 9999, PASSWORD)] == [
        *[False] * 3,
        True,
    ]
    assert compared == [(32, 32)] * 4


def test_after_some_wrong_passwords_not_even_the_right_one_is_looked_at(app: Any) -> None:
    guesser, other = app.server.test_client(), app.server.test_client()
    guesser.environ_base["REMOTE_ADDR"], other.environ_base["REMOTE_ADDR"] = "192.0.2.1", "192.0.2.2"
    assert [log_in(guesser, "wrong").status_code for _ in range(TRIES)] == [401] * TRIES
    answer = log_in(guesser)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= TRY_SECONDS + 1
    assert log_in(other).status_code == 303


def test_tries_are_forgotten_and_logins_end() -> None:
    now = [0.0]
    door = Door(PASSWORD, clock=lambda: now[0])
    for place in range(TRIES):
        assert door.enter("wrong", f"2001:db8::{place}") is None  # one network of version 6 is one guesser
    assert door.enter(PASSWORD, "2001:db8::99") is None
    assert door.seconds_to_wait("2001:db8::99") == TRY_SECONDS + 1
    assert door.seconds_to_wait("2001:db9::99") == 0
    now[0] = TRY_SECONDS
    token = door.enter(PASSWORD, "2001:db8::99")
    assert token is not None
    assert door.knows(token)
    now[0] += 3600 * HOURS
    assert not door.knows(token)


def test_only_so_many_logins_are_known() -> None:
    door = Door(PASSWORD)
    tokens = [door.enter(PASSWORD, "") or "" for _ in range(MOST_SESSIONS + 1)]
    assert len(set(tokens)) == MOST_SESSIONS + 1
    assert not door.knows(tokens[0])
    assert door.knows(tokens[1])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "at least 8 characters, not of 0"),
        (b"short\nlong enough here", "not of 5"),
        (b"\xff\xfe\xff\xff\xff\xff\xff\xff\xff", "UTF-8"),
    ],
)
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=says):
        read_password(path)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 10_000)
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "large"):
        with pytest.raises(FileError):
            read_password(path)


def test_without_a_password_there_is_nothing_to_log_in_to(made_store: Path) -> None:
    client = make_app(made_store).server.test_client()
    assert client.get("/").status_code == 200
    assert client.post("/login", data={"password": "x"}).status_code in (404, 405)
    assert "'none'" in client.get("/").headers["Content-Security-Policy"].partition("form-action")[2]
