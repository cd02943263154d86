"""Every term that has an explanation shows it on some page."""

from __future__ import annotations

import json
from typing import Any

from dashboards.app.look import Look
from dashboards.app.network_drawings import strip
from dashboards.app.shell import Shell
from dashboards.app.training_now import training_lines
from dashboards.facts.against import AgainstFacts
from dashboards.facts.device import DeviceCurves
from dashboards.facts.progress import ProgressFacts
from dashboards.facts.terms import TERMS
from dashboards.pages.device import _ratios
from dashboards.pages.studies import studies_list
from evaluators.training.live import Live


def text_of(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json(), ensure_ascii=False)


def test_every_term_is_explained_where_it_is_shown(shell: Shell) -> None:
    reading = shell.live.study("full")
    running = ProgressFacts(
        name="s", created=0.0, done=1, planned=2, state="running", best={}, rate=0.1, seconds_left=9.0
    )
    pages = [
        *(shell.page(place) for place in ("/", "/study/full", "/study/full/network", "/study/full/compare")),
        studies_list([running]),
        strip(reading, reading.members[0], "family", "", Look()),
        training_lines([Live(1, 2, 1.0, 5.0, 0.2, 0.0)]),
        _ratios(AgainstFacts(DeviceCurves((), (), 0, 0), {}, {}, {}, ())),
    ]
    shown = "".join(map(text_of, pages))
    missing = [word for word, about in TERMS.items() if json.dumps(about, ensure_ascii=False) not in shown]
    assert missing == []
