"""The page of several studies: chosen by its address, and honest about those that cannot be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dashboards.pages.comparison as module
from dashboards.app.server import make_app
from dashboards.app.shell import Shell
from dashboards.facts import read_comparison
from dashboards.pages.base import address
from dashboards.pages.comparison import Comparison, usual_pair
from nas.study.study import Study
from tests.dashboards.sent import post, sent_by
from tests.dashboards.test_callbacks import text_of

BOTH = ["full", "one"]


@pytest.fixture
def page(shell: Shell) -> Comparison:
    found = shell.pages["comparison"]
    assert isinstance(found, Comparison)
    return found


def test_studies_stand_side_by_side(page: Comparison, shell: Shell) -> None:
    text = text_of(page.shown(BOTH, "light"))
    store = shell.live.store
    facts = read_comparison([Study(store, store.study(name)) for name in BOTH])
    for name in BOTH:
        assert f'"/study/{name}"' in text
    assert f"{facts.volume:.3g}"[:3] in text
    for member in facts.joint:
        assert address("network", member.discoveries[0].study, member.discoveries[0].digest) in text
    assert text.count('"Graph"') == len(facts.studies[0].fronts) + 1
    assert text.count("The same as a table") == text.count('"Graph"')


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["full"], "of 2 to 6 studies, got 1"),
        (None, "got 0"),
        ([7, {}], "got 0"),
        (["full", "gone"], "no study 'gone'"),
        (["full", "two"], "objectives"),
        (["full", "empty"], "has no scored trial"),
    ],
)
def test_what_cannot_be_compared_says_why(page: Comparison, chosen: Any, said: str) -> None:
    assert said in text_of(page.shown(chosen, None))


def test_the_usual_pair_has_the_same_objectives(shell: Shell) -> None:
    records = shell.live.records()
    newest = [record.name for record in records]
    assert newest[:3] == ["empty", "one", "two"]
    assert usual_pair(records[1:]) == ["one", "full"]
    assert usual_pair(records[2:3]) == ["two"]
    assert usual_pair([]) == []
    broken = [replace(record, config={"plan": [name]}) for record, name in zip(records, "abcd", strict=True)]
    assert usual_pair(broken) == newest[:2]


def test_very_many_trials_are_for_the_command(page: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 3)
    assert "nas compare full one" in text_of(page.shown(BOTH, "dark narrow"))


def test_an_address_names_the_studies(shell: Shell) -> None:
    path, _, search = address("comparison", **{"with": ["one", "full", "<b>"]}).partition("?")  # type: ignore[arg-type]
    text = text_of(shell.page(path, search))
    assert '["one", "full"]' in text
    assert "<b>" not in text


@pytest.mark.parametrize("kind", ["json", "html"])
def test_the_comparison_is_taken_home(made_store: Path, kind: str) -> None:
    client = make_app(made_store).server.test_client()
    bodies = sent_by(client, address("comparison"))
    body = next(each for each in bodies if each["output"] == "comparison-file.data")
    body["state"][0]["value"] = BOTH
    body["changedPropIds"] = [f"comparison-{kind}.n_clicks"]
    data = post(client, body).get_json()["response"]["comparison-file"]["data"]
    assert data["filename"] == f"compared.{kind}"
    if kind == "json":
        assert [study["study"] for study in json.loads(data["content"])["studies"]] == BOTH
    else:
        assert "full and one, compared" in data["content"]
