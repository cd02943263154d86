"""What a reader takes home: files of a network, exports in the background, figures in a notebook."""

from __future__ import annotations

import csv
import json
import time
import tomllib
import zipfile
from dataclasses import replace
from importlib.metadata import EntryPoint
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

import nas
from dashboards.app.explored import listed_networks
from dashboards.app.exports import Exports, Job, formats, zipped
from dashboards.app.live_store import key_of
from dashboards.app.requests import CALLBACK
from dashboards.app.server import make_app
from dashboards.facts.reading import Reading
from dashboards.pages.base import address
from dashboards.report.pieces import trials_csv, trials_json
from foundation.errors import SettingError, UnknownName
from nas import plugins
from nas.study.open_study import open_study
from nas.study.study import Study
from nas.study.trial import Value
from tests.dashboards.sent import post, sent_by

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def reading(full: Study) -> Reading:
    found = Reading(full)
    found.refresh()
    return found


def ended(job: Job) -> Job:
    until = time.monotonic() + 120
    while job.ended is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return job


def test_networks_are_rows_and_records(reading: Reading) -> None:
    rows = list(csv.DictReader(StringIO(trials_csv(reading, reading.members))))
    assert [row["digest"] for row in rows] == [trial.digest for trial in reading.members]
    assert float(rows[0]["bits_per_byte"]) == reading.members[0].values["bits_per_byte"].value
    assert rows[0]["decode_ms_source"] == "measured"
    plain = json.loads(trials_json(reading, reading.members))
    assert plain["networks"][0]["genotype"] == dict(reading.members[0].genotype.genes)


@pytest.mark.parametrize("kind", ["json", "csv", "html"])
def test_a_network_is_downloaded(made_store: Path, reading: Reading, kind: str) -> None:
    client = make_app(made_store).server.test_client()
    number = reading.members[0].number
    body = {
        "output": "network-file.data",
        "outputs": {"id": "network-file", "property": "data"},
        "inputs": [
            {"id": f"network-{k}", "property": "n_clicks", "value": 1} for k in ("json", "csv", "html")
        ],
        "state": [
            {"id": "network-which", "property": "data", "value": f"{key_of(reading.study.record)}/{number}"}
        ],
        "changedPropIds": [f"network-{kind}.n_clicks"],
    }
    answer = client.post(CALLBACK, json=body)
    assert answer.status_code == 200
    data = answer.get_json()["response"]["network-file"]["data"]
    assert data["filename"] == f"full-{reading.members[0].digest}.{kind}"
    assert reading.members[0].digest in data["content"]
    if kind == "html":
        assert "http://" not in data["content"].partition("<script>")[0]
        assert "Decoder(" in data["content"]


@pytest.mark.parametrize("kind", ["json", "csv", "html"])
@pytest.mark.parametrize("page", ["front", "compare"])
def test_what_is_seen_is_downloaded(made_store: Path, reading: Reading, page: str, kind: str) -> None:
    client = make_app(made_store).server.test_client()
    body = next(
        each for each in sent_by(client, address(page, "full")) if each["output"] == f"{page}-file.data"
    )
    body["changedPropIds"] = [f"{page}-{kind}.n_clicks"]
    chosen = reading.members[1:3]
    for each in body["state"]:
        if each["id"] == "front-chosen":
            each["value"] = ".".join(str(trial.number) for trial in chosen)
        if each["id"] == "compare-with":
            each["value"] = [trial.digest for trial in chosen]
    data = post(client, body).get_json()["response"][f"{page}-file"]["data"]
    assert data["filename"].startswith("full-")
    assert data["filename"].endswith(f".{kind}")
    for trial in reading.members:
        found = f'"{trial.digest}"' if kind == "json" else trial.digest
        inside = data["content"].partition("<h2>Networks</h2>")[2] if kind == "html" else data["content"]
        assert (found in inside) == (trial in chosen)


@pytest.mark.parametrize("chosen", [None, "", ".", "3..x.-1.²", "9" * 4000, "5.5", 7, ["3"]])
def test_a_lasso_of_an_address_is_some_networks(reading: Reading, chosen: Any) -> None:
    trials, note = listed_networks(reading, chosen, None)
    lasso = note.startswith("Those inside")
    assert lasso == (chosen in ("3..x.-1.²", "5.5"))
    assert [trial.number for trial in trials] == (
        ([3] if chosen != "5.5" else [5]) if lasso else [trial.number for trial in reading.members]
    )


def test_a_study_without_weights_says_so(full: Study, made_store: Path) -> None:
    exports = Exports(f"sqlite:///{made_store}")
    digest = full.predicted_front()[0].digest
    job = ended(exports.start(full, digest, "nas"))
    assert job.content == b""
    assert job.error
    assert exports.job("full", digest, "nas") is job
    assert exports.job("full", digest, "onnx") is None


@pytest.mark.parametrize("to", ["", "../../etc/passwd", "nas,force=1", "no such format", "None"])
def test_a_format_is_one_of_those_that_are_installed(full: Study, made_store: Path, to: str) -> None:
    assert "nas" in formats()
    with pytest.raises(SettingError, match="no format"):
        Exports(f"sqlite:///{made_store}").start(full, "0" * 12, to)


def test_a_folder_is_zipped_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "s-digest"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.txt").write_text("hello")
    with zipfile.ZipFile(BytesIO(zipped(folder))) as archive:
        assert archive.namelist() == ["s-digest/inner/a.txt"]
    monkeypatch.setattr("dashboards.app.exports.LARGEST", 3)
    with pytest.raises(SettingError, match="use the command"):
        zipped(folder)


@pytest.mark.slow
def test_an_export_is_a_directory_that_loads(searched: Path, tmp_path: Path) -> None:
    store = str(searched)
    study = open_study("s", store)
    job = ended(Exports(f"sqlite:///{store}").start(study, study.front()[0].digest, "nas"))
    assert not job.error
    zipfile.ZipFile(BytesIO(job.content)).extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert nas.load(folder) is not None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points that this project declares, installed or not."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]

    def found(group: str) -> Any:
        return [EntryPoint(name, value, group) for name, value in declared.get(group, {}).items()]

    monkeypatch.setattr(plugins, "entry_points", found)


def test_a_notebook_shows_the_figures_of_a_study(installed: None, full: Study, made_store: Path) -> None:
    study = open_study("full", made_store)
    assert isinstance(study.figure("front"), go.Figure)
    assert study.figure("hypervolume").layout.xaxis.title.text == "trial"
    with pytest.raises(UnknownName, match="did you mean 'front'"):
        study.figure("frnt")


def test_a_trial_is_a_table_whose_texts_stay_text(full: Study) -> None:
    trial = full.trials()[0]
    assert "<td>bits_per_byte</td>" in trial._repr_html_()
    hostile = replace(trial, reason="<script>", values={"<b>": Value(1.0, None, "<i>")})._repr_html_()
    assert "<script>" not in hostile
    assert "<b>" not in hostile
    assert "&lt;b&gt;" in hostile


def test_what_was_fetched_is_forgotten(full: Study, made_store: Path) -> None:
    exports = Exports(f"sqlite:///{made_store}")
    digest = full.predicted_front()[0].digest
    ended(exports.start(full, digest, "nas"))
    exports.taken("full", digest, "nas")
    assert exports.job("full", digest, "nas") is None


def test_without_a_package_that_draws_it_says_so(monkeypatch: pytest.MonkeyPatch, made_store: Path) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    with pytest.raises(SettingError, match=r"nas\.figures"):
        open_study("full", made_store).figure()
