"""What there is to say about a study, read once into frozen plain values.

    facts = read_facts(open_study("my-study"))
    facts.fronts[0].front          # the staircase of the first two objectives, point by point

No figure opens the database, and nothing here knows how anything will look.
"""

from dashboards.facts.evidence import CorpusFacts, Phase, SupernetFacts, TableFacts, ValidationFacts
from dashboards.facts.finals import FinalFacts, Finalist
from dashboards.facts.front import Cloud, FrontFacts, Point, front_facts
from dashboards.facts.makeup import MakeupFacts, Panel
from dashboards.facts.networks import Network
from dashboards.facts.study import Facts, HypervolumeFacts, StudyFacts, read_facts

__all__ = [
    "Cloud",
    "CorpusFacts",
    "Facts",
    "FinalFacts",
    "Finalist",
    "FrontFacts",
    "HypervolumeFacts",
    "MakeupFacts",
    "Network",
    "Panel",
    "Phase",
    "Point",
    "StudyFacts",
    "SupernetFacts",
    "TableFacts",
    "ValidationFacts",
    "front_facts",
    "read_facts",
]
