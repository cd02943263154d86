"""What there is to say about a study, read once into frozen plain values.

    facts = read_facts(open_study("my-study"))
    facts.fronts[0].front          # the staircase of the first two objectives, point by point

No figure opens the database, and nothing here knows how anything will look.
"""

from dashboards.facts.compare import CompareFacts, Finding, JointMember, Side, read_comparison
from dashboards.facts.evidence import (
    ClaimFacts,
    CorpusFacts,
    GainFacts,
    Phase,
    SupernetFacts,
    TableFacts,
    ValidationFacts,
)
from dashboards.facts.finals import FinalFacts, Finalist
from dashboards.facts.front import Cloud, FrontFacts, Point, front_facts
from dashboards.facts.makeup import MakeupFacts, Panel
from dashboards.facts.networks import Network
from dashboards.facts.study import Facts, HypervolumeFacts, StudyFacts, read_facts

__all__ = [
    "ClaimFacts",
    "Cloud",
    "CompareFacts",
    "CorpusFacts",
    "Facts",
    "FinalFacts",
    "Finalist",
    "Finding",
    "FrontFacts",
    "GainFacts",
    "HypervolumeFacts",
    "JointMember",
    "MakeupFacts",
    "Network",
    "Panel",
    "Phase",
    "Point",
    "Side",
    "StudyFacts",
    "SupernetFacts",
    "TableFacts",
    "ValidationFacts",
    "front_facts",
    "read_comparison",
    "read_facts",
]
