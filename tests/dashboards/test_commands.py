from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dashboards import commands
from dashboards.facts import Facts
from dashboards.shell_commands import export, target
from foundation.errors import SettingError, UnknownName


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(commands.report)
    app.command()(commands.dashboard)
    return app


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_report_prints_where_it_is(app: typer.Typer, made_store: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["report", "full", "--store", str(made_store), "-o", str(tmp_path / "r.html")]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 1e6


def test_an_unknown_study_is_an_error_that_helps(app: typer.Typer, made_store: Path) -> None:
    result = CliRunner().invoke(app, ["report", "ful", "--store", str(made_store)])
    assert isinstance(result.exception, UnknownName)


@pytest.mark.parametrize(
    ("host", "mode", "told"), [("127.0.0.1", None, ""), ("0.0.0.0", 0o600, "unencrypted")]
)
def test_dashboard_prints_its_address_and_warns_beyond_this_machine(
    app: typer.Typer,
    made_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    mode: int | None,
    told: str,
) -> None:
    served = []
    monkeypatch.setattr(commands, "serve", lambda app, host, port: served.append((host, port)))
    port, file = free_port(), tmp_path / "password"
    words = ["dashboard", "--store", str(made_store), "--host", host, "--port", str(port)]
    if mode is not None:
        file.write_text("open sesame\n")
        file.chmod(mode)
        words += ["--password-file", str(file)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert served == [(host, port)]
    assert f"http://{host}:{port}/" in result.stdout
    assert told in result.stderr
    assert bool(told) is bool(result.stderr)


def test_no_other_machine_comes_in_without_a_password(app: typer.Typer, made_store: Path) -> None:
    words = ["dashboard", "--store", str(made_store), "--host", "0.0.0.0", "--port", str(free_port())]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SettingError)
    assert "--password-file FILE" in str(result.exception)


def test_a_password_that_others_can_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "password"
    file.write_text("open sesame")
    file.chmod(0o640)
    assert commands.password_of(file, "localhost", local=True) == "open sesame"
    assert f"chmod 600 {file}" in capsys.readouterr().err


def test_a_taken_port_is_refused_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingError, match="cannot listen on"):
            commands.check_address("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("", "must be an address"),
        ("no such host", "must be an address"),
        ("x" * 300, "must be an address"),
        ("192.0.2.1", "cannot listen on 192.0.2.1"),
        ("unix:///tmp/s", "must be an address"),
    ],
)
def test_a_host_that_is_not_this_machine_is_refused(host: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        commands.check_address(host, free_port())


@pytest.mark.parametrize("port", [0, -1, 65536, 70000, 10**20])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(SettingError, match=r"port must be at (least 1|most 65535)"):
        commands.Listening(port=port)


@pytest.mark.parametrize(("host", "address"), [("127.1", "127.0.0.1"), ("localhost", "127.0.0.1")])
def test_a_host_is_judged_by_its_address(host: str, address: str) -> None:
    assert commands.check_address(host, free_port()) in (address, "::1")


def test_commands_are_quoted_and_name_a_store_that_is_not_the_default(all_facts: dict[str, Facts]) -> None:
    from dataclasses import replace

    study = replace(all_facts["full"].study, store="/my studies/s.db")
    assert target(study) == "full --store '/my studies/s.db'"
    assert target(replace(study, store="studies/studies.db")) == "full"
    assert export(study, "ab12").startswith("nas export full ab12 -o full-ab12 --store")


def test_the_command_line_does_not_wait_for_plotly() -> None:
    code = "import sys, dashboards.commands; sys.exit('plotly' in sys.modules or 'dash' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
