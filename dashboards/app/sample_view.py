"""The place on a network's page where it writes a text, and the text as far as it is written."""

from __future__ import annotations

import time

from dash import dcc, html
from dash.development.base_component import Component

from dashboards.app.samples import LONGEST_PROMPT, TOKENS, Sample
from dashboards.facts.reading import Reading
from foundation.text import harmless
from nas.study.export import has_weights
from nas.study.facts import CORPUS
from nas.study.trial import Trial
from search_spaces.network.generation import Generation


def sample_section(reading: Reading, trial: Trial) -> list[Component]:
    """The place of a text that the network writes; hidden where the study has no weights or no text."""
    study = reading.study
    possible = CORPUS in study.facts and study.source is None and has_weights(study, trial.digest)
    return [
        html.Section(
            [
                html.H2("What it writes"),
                html.Div(
                    [
                        dcc.Input("def ", id="network-prompt", type="search", maxLength=LONGEST_PROMPT),
                        html.Button("Continue the text", id="network-sample"),
                    ],
                    className="buttons",
                ),
                html.Div(id="network-text", role="status"),
                dcc.Interval(id="network-sample-poll", interval=700, disabled=True),
            ],
            hidden=not possible,
        )
    ]


def sample_text(found: Sample) -> list[Component]:
    """A text as far as it is written: the prompt marked, invisible characters spelled out."""
    if found.error:
        return [html.P(f"Not written: {found.error}", className="muted")]
    if not found.weights:
        return [html.P(f"reading the weights for {time.monotonic() - found.began:.0f} s", className="muted")]
    text = html.Pre([html.Strong(harmless(found.prompt)), harmless(found.text)])
    more = "" if found.ended else ", still writing"
    told = (
        f"By its weights {found.weights}{more}: at most {TOKENS} tokens at a temperature of"
        f" {Generation().temperature}, as "
    )
    caption = html.P([told, html.Code("nas generate"), " writes them."], className="caption")
    return [html.Div(text, className="source written"), caption]
