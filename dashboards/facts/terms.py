"""What the words on the pages mean, in a sentence each."""

from __future__ import annotations

from dashboards.facts.quantities import Quantity
from nas.study.objective_records import known_objective
from nas.study.study import Study

TERMS = {
    "front": "The networks that no other one beats in every objective: each is the best for some exchange.",
    "beaten": "Another network is at least as good in everything that is compared, and better in something.",
    "knee": "Where the front bends most: beyond it, little of one quantity costs much of the other.",
    "hypervolume": "How much of the space of objectives the front beats, up to a point worse than all.",
    "tied": "The difference of the scores is smaller than what chance alone would make of it.",
    "baseline": "A published architecture of about the same size, trained as long as the finalists.",
    "finalist": "A network of the front that was trained from scratch, not only scored by shared weights.",
    "predicted": "Computed from a latency table, not measured on the whole network; written with a ~.",
    "measured": "Timed on the whole network, built and run on the device of the scenario.",
    "scenario": "How the network is used: device, runtime, batch, prompt and tokens that are decoded.",
    "±": "One standard error: the true value lies within it in about two of three cases.",
    "rate": "Trials that end in a minute, over the latest sixty.",
    "tokens a second": "Tokens that all networks of a training step read, over the latest seconds.",
    "of the device's peak": "Of the products that the device could compute in this precision (MFU): counted"
    " are those that the networks need on paper, three times a forward pass.",
    "prefill": "Reading the whole prompt at once.",
    "decode": "Writing one token after the other.",
    "state": "What a layer carries from one token to the next: its keys and values, or its memory.",
}


def about(of: Quantity, study: Study | None = None) -> str:
    """What a quantity is, as its objective says; empty where nothing does."""
    name = of.name.partition("@")[0]
    known = known_objective(name, {}) if study is None else study.known(name)
    text = known.about
    return f"{text[:1].upper()}{text[1:]}" if text else ""
