"""Networks of a study side by side, and what the study says about its genes as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import dash
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.app.behind import behind, folded
from dashboards.app.compared_tables import (
    dependence_table,
    gene_table,
    importance_table,
    numbers_side_by_side,
    texts_table,
)
from dashboards.app.controls import options_of, picker, term
from dashboards.app.files import FILES, asked_kind, file_row, kinds_of, networks_file
from dashboards.app.gene_models import GeneModels, dependence_by
from dashboards.app.live_store import LiveStore, key_of
from dashboards.app.look import Look
from dashboards.app.panels import said
from dashboards.app.recent import Recent
from dashboards.facts.families import family_facts
from dashboards.facts.networks import architecture
from dashboards.facts.parallel import parallel
from dashboards.facts.reading import Reading
from dashboards.facts.side_by_side import side_by_side
from dashboards.facts.surrogate import LEAST, grouped
from dashboards.figures.dependence import dependence_figure
from dashboards.figures.families import families_figure
from dashboards.figures.importance import importance_figure
from dashboards.figures.importance import shown as shown_gene
from dashboards.figures.parallel import parallel_figure
from dashboards.pages.base import MOST_COMPARED, Control, Page, Place, pages
from dashboards.style.theme import SCHEMES, faint
from foundation.errors import NasError, UnknownName
from foundation.text import count, percent
from nas.study.trial import Trial

KEPT = 8
"""Studies of which what is said of the whole is kept."""


@pages.add
class Compare(Page):
    """Two or more networks, of which the address names each by its digest; else the ends of the front."""

    name = "compare"
    title = "Compare"
    rank = 30
    linked: ClassVar = {
        "with": Control("compare-with.value", list),
        "gene": Control("compare-gene.value", str),
        "of": Control("compare-of.value", str),
    }
    sent: ClassVar = {"compare-study.data": str, **kinds_of("compare")}

    def __init__(self, live: LiveStore) -> None:
        super().__init__(live)
        self._models = GeneModels()
        self._whole: Recent[tuple[Any, Any]] = Recent(KEPT)

    def layout(self, place: Place) -> list[Component]:
        """The page before anything is compared."""
        reading = self.live.study(place.study)
        if not reading.members:
            raise UnknownName(f"study {place.study} has no scored network yet")
        usual = [trial.digest for trial in _ends(reading)]
        asked = _asked(reading, place)
        chosen = [trial.digest for trial in asked] or usual
        known = {trial.digest: trial for trial in (*asked, *reading.members)}
        options = [{"label": _named(reading, trial), "value": digest} for digest, trial in known.items()]
        return [
            html.H1(["Compare", html.Span(f" networks of {reading.study.name}", className="muted")]),
            html.Div(
                picker("networks, up to six", "compare-with", options, chosen, multi=True), className="wide"
            ),
            html.P(
                ["On the menu are those on the ", term("front"), "; each network's own page brings it here."],
                className="caption",
            ),
            html.Div(id="compare-sides"),
            *file_row("compare"),
            html.Section(
                [
                    html.H2("Among all networks"),
                    html.Div(id="compare-lines"),
                ]
            ),
            html.Div(
                html.P("Fitting a model of the objectives…", className="muted awaited"), id="compare-whole"
            ),
            self._one_gene(place, reading),
            html.Div(id="compare-families"),
            dcc.Store(id="compare-study", data=key_of(reading.study.record)),
            self.usual({"with": usual, "gene": None, "of": reading.objectives[0].name}),
        ]

    def _one_gene(self, place: Place, reading: Reading) -> Component:
        """The place of the partial dependence, and what it is of."""
        names = list(grouped(self._models.encoding(reading)))
        objectives = [of.name for of in reading.objectives]
        genes = [{"label": shown_gene(name), "value": name} for name in names]
        return html.Section(
            [
                html.H2("What one gene does"),
                html.Div(
                    [
                        picker(
                            "gene",
                            "compare-gene",
                            genes,
                            place.one("gene", names) or None,
                            clearable=True,
                            placeholder="that which matters most",
                        ),
                        picker(
                            "objective",
                            "compare-of",
                            options_of(reading.objectives),
                            place.one("of", objectives, objectives[0]),
                        ),
                    ],
                    className="pickers",
                ),
                html.Div(id="compare-dependence"),
            ]
        )

    def connect(self, app: dash.Dash) -> None:
        """The tables and the lines follow the choice; what is said of the whole study, its look only."""
        app.callback(
            Output("compare-sides", "children"),
            Output("compare-lines", "children"),
            Input("compare-with", "value"),
            Input("look", "data"),
            State("compare-study", "data"),
        )(self.compared)
        app.callback(
            Output("compare-whole", "children"),
            Output("compare-families", "children"),
            Input("compare-study", "data"),
            Input("look", "data"),
        )(self.whole)
        app.callback(
            Output("compare-dependence", "children"),
            Input("compare-gene", "value"),
            Input("compare-of", "value"),
            Input("look", "data"),
            State("compare-study", "data"),
        )(self.depends)

        app.callback(
            Output("compare-file", "data"),
            *(Input(f"compare-{kind}", "n_clicks") for kind in FILES),
            State("compare-with", "value"),
            State("compare-study", "data"),
            prevent_initial_call=True,
        )(self.file)

    def file(self, *sent: Any) -> Any:
        """The compared networks as a file; as a page, with the lines among all others."""
        *_, chosen, study = sent
        kind = asked_kind(self.name)
        if study is None or not kind:
            return no_update
        try:
            reading = self.live.by_key(study)
            trials = _trials(reading, chosen if isinstance(chosen, list) else [])
            known = self._models.rows(reading, tuple(trial.number for trial in trials))
            facts = parallel(reading, known, [trial.digest for trial in trials])
        except NasError:
            return no_update  # the tables say what is wrong
        if facts is None or not trials:
            return no_update
        return networks_file(kind, reading, trials, parallel_figure(facts), LINES, what="compared")

    def compared(self, chosen: Any, look: Any, study: Any) -> tuple[Any, Any]:
        """The chosen networks side by side, and as lines among all others."""
        if study is None:
            return no_update, no_update
        try:
            reading = self.live.by_key(study)
            trials = _trials(reading, chosen if isinstance(chosen, list) else [])
            lines = self._lines(reading, trials, Look.read(look))
        except NasError as error:
            return [html.P(str(error))], []
        if not trials:
            return [html.P("Choose two networks or more.", className="muted")], lines
        facts = side_by_side(reading, trials)
        parts: list[Component] = [
            html.Section([html.H2("Numbers"), *numbers_side_by_side(reading, facts)]),
            html.Section([html.H2("Layers"), *texts_table(reading, facts)]),
        ]
        if facts.genes:
            parts.append(
                html.Details([html.Summary(f"{count(len(facts.genes), 'gene')} differ"), gene_table(facts)])
            )
        return parts, lines

    def _lines(self, reading: Reading, trials: Sequence[Trial], look: Look) -> list[Component]:
        known = self._models.rows(reading, tuple(trial.number for trial in trials))
        facts = parallel(reading, known, [trial.digest for trial in trials])
        if facts is None:
            return [html.P("Nothing is scored yet.", className="muted")]
        figure = parallel_figure(facts, narrow=look.narrow)
        figure.update_annotations(bgcolor=faint(SCHEMES[look.scheme].paper, 0.84))
        return [look.graph(figure), html.P(LINES, className="caption")]

    def whole(self, study: Any, look: Any) -> tuple[Any, Any]:
        """Which genes matter, and which families the front has where; kept while no trial is added."""
        if study is None:
            return no_update, no_update
        try:
            reading = self.live.by_key(study)
            shown = Look.read(look)
            key = study, reading.revision, str(shown)
            return self._whole.get(
                key, lambda: (self._matters(reading, shown), self._families(reading, shown))
            )
        except NasError as error:
            return [html.P(str(error))], []

    def _matters(self, reading: Reading, look: Look) -> list[Component]:
        fit = self._models.fit(reading)
        parts: list[Component] = [html.H2("Which genes matter")]
        if fit is None:
            parts.append(html.P(TOO_FEW, className="muted"))
        else:
            facts = fit.matters
            parts += [
                look.graph(importance_figure(facts, narrow=look.narrow)),
                html.P(MATTERS.format(count(facts.networks, "network"), facts.of), className="caption"),
                folded(importance_table(facts)),
            ]
        return [html.Section(parts)]

    def depends(self, gene: Any, objective: Any, look: Any, study: Any) -> Any:
        """What one gene does to an objective; without a gene, that which matters most for it."""
        if study is None:
            return no_update
        try:
            reading = self.live.by_key(study)
            fit = self._models.fit(reading, anew=False)
            if fit is None:
                return [html.P(TOO_FEW, className="muted")]
            facts = dependence_by(fit, str(gene or ""), str(objective))
        except NasError as error:
            return [html.P(f"Not told: {error}.", className="muted")]
        seen = Look.read(look)
        hollow = HOLLOW if any(not point.networks for point in facts.points) else ""
        told = percent(facts.explained, facts.explained_error)
        return [
            html.Div(seen.graph(dependence_figure(facts, narrow=seen.narrow)), className="narrow"),
            html.P(DEPENDS.format(count(facts.networks, "network"), told) + hollow, className="caption"),
            folded(dependence_table(facts)),
        ]

    def _families(self, reading: Reading, look: Look) -> list[Component]:
        known = self._models.rows(reading)
        everywhere = known.scored.whole(known.scored.numbers.tolist()).values()
        families = family_facts(
            [architecture(reading.study, trial) for trial in reading.members],
            [architecture(reading.study, trial) for trial in everywhere],
        )
        if families is None:
            return []
        told = FAMILIES.format(count(families.networks, "network"), count(families.searched, "network"))
        figure = families_figure(families, narrow=look.narrow)
        parts = [look.graph(figure), html.P(told, className="caption"), behind(figure)]
        return [html.Section([html.H2("Where which blocks stand"), *parts])]


LINES = (
    "Each line is a network: thick ones are compared, blue ones are on the front, grey ones are beaten. The"
    " genes are those whose answers alone tell most about an objective; their lines are spread a little, so"
    " that bundles can be seen. On objectives, upwards is better (to the right where axes lie), and"
    " networks stand where the search knew them to be. The tables above have all of those that are compared."
)
TOO_FEW = f"Of fewer than {LEAST} scored networks nothing can be said about single genes."
DEPENDS = (
    "The mean of the objective over {}, were each of them to give this answer and keep its others; what the"
    " answer newly asks is answered at random. Predicted by a Gaussian process, which tells {} of the"
    " variance of the objective in networks that it has not seen; lines are one standard error of the mean,"
    " from fits that lack one fold each. Means are over networks of the front and of all the search, and may"
    " hide opposite effects in different ones."
)
HOLLOW = " No known network gives a hollow answer."
MATTERS = (
    "How much worse an objective is predicted when the answers to a gene, in all layers together, are"
    " exchanged among networks: 0 is not at all, 1 as much as the objective varies. Predicted by a Gaussian"
    " process that had not seen the network ({} out of {:,}); lines are one standard error over networks,"
    " grey bars are within two of nothing. Where little of the variance is predicted,"
    " a short bar says little."
)
FAMILIES = (
    "The share of networks that have such a block at a layer, the first layer on the left: of the front ({})"
    " and of {} from all over the search, the front among them. Where bars end below 100 %, networks are"
    " not that deep."
)


def _ends(reading: Reading) -> list[Trial]:
    """The best of the front in each of the first two objectives; what is next where these are the same."""
    members = list(reading.members)
    found = [members[0]]
    for of in reading.objectives[1:2]:
        sign = -1.0 if of.maximise else 1.0
        found.append(min(members, key=lambda trial: sign * trial.values[of.name].value))
    found += members[1:2]
    return list({trial.digest: trial for trial in found}.values())[:2]


def _asked(reading: Reading, place: Place) -> list[Trial]:
    """The networks that an address names; others are left out."""
    return _trials(reading, place.asked.get("with", ()))


def _trials(reading: Reading, digests: Sequence[Any]) -> list[Trial]:
    """Scored networks by their digests, each once."""
    numbers = [reading.numbered(digest) for digest in digests[:MOST_COMPARED] if isinstance(digest, str)]
    return list(reading.whole([number for number in numbers if number is not None]).values())


def _named(reading: Reading, trial: Trial) -> str:
    of = reading.objectives[0]
    return f"{trial.digest}: {said(of, trial.values[of.name])}"
