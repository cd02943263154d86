"""What a report shows of a study, read once into frozen plain values.

    facts = read_facts(open_study("my-study"))
    facts.fronts[0].front          # the staircase of the first two objectives, point by point

Figures never open the database, and nothing here depends on how it will be drawn.
"""

from dashboards.facts.baselines import BaselineFacts, TrainedNetwork, VerdictFacts
from dashboards.facts.comparison import (
    ComparedStudy,
    ComparisonFacts,
    Discovery,
    JointMember,
    read_comparison,
)
from dashboards.facts.composition import CompositionFacts, CompositionPanel
from dashboards.facts.finalists import Finalist, FinalistFacts
from dashboards.facts.front import Cloud, FrontFacts, Point, front_facts
from dashboards.facts.growth import HypervolumeFacts
from dashboards.facts.networks import NetworkFacts
from dashboards.facts.next_steps import NextSteps
from dashboards.facts.records import (
    ClaimFacts,
    CorpusFacts,
    GainFacts,
    LatencyAccuracy,
    SupernetFacts,
    TableFacts,
    ValidationFacts,
)
from dashboards.facts.study import Facts, StudyFacts, read_facts

__all__ = [
    "BaselineFacts",
    "ClaimFacts",
    "Cloud",
    "ComparedStudy",
    "ComparisonFacts",
    "CompositionFacts",
    "CompositionPanel",
    "CorpusFacts",
    "Discovery",
    "Facts",
    "Finalist",
    "FinalistFacts",
    "FrontFacts",
    "GainFacts",
    "HypervolumeFacts",
    "JointMember",
    "LatencyAccuracy",
    "NetworkFacts",
    "NextSteps",
    "Point",
    "StudyFacts",
    "SupernetFacts",
    "TableFacts",
    "TrainedNetwork",
    "ValidationFacts",
    "VerdictFacts",
    "front_facts",
    "read_comparison",
    "read_facts",
]
