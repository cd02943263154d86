"""What there is to say about a study, read once into frozen plain values.

    facts = read_facts(open_study("my-study"))
    facts.fronts[0].front          # the staircase of the first two objectives, point by point

No figure opens the database, and nothing here knows how anything will look.
"""

from dashboards.facts.comparison import (
    ComparedStudy,
    ComparisonFacts,
    Discovery,
    JointMember,
    read_comparison,
)
from dashboards.facts.composition import CompositionFacts, Panel
from dashboards.facts.finalists import FinalFacts, Finalist
from dashboards.facts.front import Cloud, FrontFacts, Point, front_facts
from dashboards.facts.networks import NetworkFacts
from dashboards.facts.records import (
    ClaimFacts,
    CorpusFacts,
    GainFacts,
    Phase,
    SupernetFacts,
    TableFacts,
    ValidationFacts,
)
from dashboards.facts.study import Facts, HypervolumeFacts, StudyFacts, read_facts

__all__ = [
    "ClaimFacts",
    "Cloud",
    "ComparedStudy",
    "ComparisonFacts",
    "CompositionFacts",
    "CorpusFacts",
    "Discovery",
    "Facts",
    "FinalFacts",
    "Finalist",
    "FrontFacts",
    "GainFacts",
    "HypervolumeFacts",
    "JointMember",
    "NetworkFacts",
    "Panel",
    "Phase",
    "Point",
    "StudyFacts",
    "SupernetFacts",
    "TableFacts",
    "ValidationFacts",
    "front_facts",
    "read_comparison",
    "read_facts",
]
