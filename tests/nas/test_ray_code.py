"""A user's code on its way to other machines, and nodes that are started, described and ended."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation.errors import SettingError
from nas.study.space_files import load_space
from tests.forks import Ended, Fork, run_main
from tests.ray_heads import free_port

ray = pytest.importorskip("ray")

from nas.executors import node_records, ray_nodes  # noqa: E402
from nas.executors.node_settings import NodeSettings  # noqa: E402
from nas.executors.ray_code import advice, project_code, runtime_env  # noqa: E402

SPACE = """
import json
import numpy
from beside import DEPTH
from far_project import WIDTHS
from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.short_conv import ShortConv

layer = Layer(sequence_mixer=ShortConv())
space = Space(Decoder(vocab=16, d_model=one_of(*WIDTHS), layers=(layer,) * DEPTH), name="far")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A space whose file imports a module beside it, and a package of the project, which imports another."""
    files = {
        "spaces/own.py": SPACE,
        "spaces/beside.py": "DEPTH = 1",
        "src/far_project/__init__.py": "from far_helper import WIDTHS",
        "src/far_helper.py": "WIDTHS = (8, 16)",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "src")
    yield tmp_path
    for name in ("far_project", "far_helper"):
        sys.modules.pop(name, None)


def test_what_a_file_imports_of_its_project_is_sent(project: Path) -> None:
    load_space(str(project / "spaces" / "own.py"))
    code = project_code()
    assert code["far_project"] == str(project / "src" / "far_project")
    assert code["far_helper"] == str(project / "src" / "far_helper.py")
    assert not {"beside", "numpy", "json", "torch", "nas", "search_spaces"} & set(code)
    sent = runtime_env()
    assert sent is not None
    assert set(code.values()) == set(sent["py_modules"])


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("The actor died.", r"The actor died\."),
        (
            "ModuleNotFoundError: No module named 'far.deep'",
            r".*: install far on every node, or put it beside the space's file .* is sent along",
        ),
        (
            "ModuleNotFoundError: No module named 'nas.executors'",
            r".*: install nas there, in the version of.*",
        ),
    ],
)
def test_who_cannot_import_says_what_and_how_to_send_it(why: str, told: str) -> None:
    assert re.fullmatch(told, advice(why))


def test_nobody_joins_a_head_that_listens_on_loopback() -> None:
    with pytest.raises(SettingError, match="which listens on loopback alone: start it with listen"):
        ray_nodes.start_node(NodeSettings(), "127.0.0.1:6379")


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:x", "http://host:1", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match="write HOST:PORT of its head"):
        ray_nodes.start_node(NodeSettings(), address)


def test_a_head_listens_at_a_free_port_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    with pytest.raises(SettingError, match=r"no head can listen at 192\.0\.2\.200:6379: "):
        ray_nodes.start_head(NodeSettings(), "192.0.2.200")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(ray_nodes, "answers", lambda address: True)
        with pytest.raises(SettingError, match="in use; a Ray cluster answers there already"):
            ray_nodes.start_head(NodeSettings(), port=port)
    assert not (tmp_path / "clusters").exists()


def test_what_a_node_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "this_machine", lambda: {"CPU": 8.0, "GPU": 2.0})
    assert ray_nodes._offered(NodeSettings()) == ["--num-cpus=8", "--num-gpus=2"]
    assert ray_nodes._offered(NodeSettings(cpus=3, gpus=0)) == ["--num-cpus=3", "--num-gpus=0"]
    assert ray_nodes._offered(NodeSettings(device=("jetson",))) == [
        "--num-cpus=0",
        "--num-gpus=0",
        '--resources={"device:jetson": 1}',
    ]


def test_a_record_of_a_node_that_has_ended_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    (tmp_path / "clusters").mkdir()
    record = {"process": os.getpid(), "began": "another time", "address": "a:1", "head": True}
    (tmp_path / "clusters" / f"{os.getpid()}.json").write_text(json.dumps({**record, "folder": "/no/folder"}))
    assert node_records.running() == []
    assert not list((tmp_path / "clusters").iterdir())


def test_a_token_is_made_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_nodes.ensure_token()
    file = tmp_path / ".ray" / "auth_token"
    token = file.read_text()
    assert len(token) == 64
    assert file.stat().st_mode & 0o077 == 0
    ray_nodes.ensure_token()
    assert file.read_text() == token


@pytest.mark.slow  # a head and workers start
def test_a_cluster_from_its_beginning_to_its_end(project: Path) -> None:
    def command(words: str) -> Ended:
        home = {"HOME": str(project), "NAS_CACHE": str(project / "cache"), "RAY_TMPDIR": "/tmp"}
        return Fork(_in_folder, str(project), tuple(words.split()), environment=home).wait(300)

    port = free_port()
    try:
        up = command(f"cluster up --port {port} --cpus 2")
        assert up.returncode == 0, up
        assert f"a Ray cluster listens at 127.0.0.1:{port}" in up.stdout
        checked = command("cluster check --space spaces/own.py --hours 2 --cpu-price 0.5")
        assert checked.returncode == 0, checked
        assert "2 of 2 CPUs free" in checked.stdout
        assert "in 2 h they hold 4 CPU-hours and 0 GPU-hours, which cost 2.00" in checked.stdout
        plain = json.loads(command("cluster check --json").stdout)
        (node,) = plain["nodes"]
        assert (plain["actors"], node["actors"], node["problem"]) == (2, 2, "")
        searched = command(
            "search spaces/own.py --name far --ray auto -o weight_bytes -o decode_flops --trials 2"
            " --finalists 0 --strategy random --store s.db"
        )
        assert searched.returncode == 0, searched
        again = command(f"cluster up --port {port}")
        assert again.returncode == 2
        assert "a Ray cluster answers there already" in again.stderr
    finally:
        down = command("cluster down")
    assert f"ended the head at 127.0.0.1:{port}" in down.stdout
    assert command("cluster down").stdout == "nothing runs here that nas cluster started\n"
    assert not list((project / "cache" / "clusters").iterdir())


def _in_folder(folder: str, words: tuple[str, ...]) -> None:
    os.chdir(folder)
    sys.path.insert(0, f"{folder}/src")
    run_main(words)
