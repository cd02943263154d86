"""What anybody would try first: the parent as it is, and its layers at equal bits, rounded to nearest.

They stand on the study's record beside what was chosen layer by layer. Nothing looks at any text for them.
"""

from __future__ import annotations

from evaluators.trained_parent.evaluator import FromParent
from foundation.text import size
from nas.engines.exact.uniform import uniform_networks
from nas.steps.base import Context, Step, steps
from nas.steps.train import evaluator
from nas.study.facts import add_fact
from nas.study.plan import Plan
from nas.study.task import doubt_of_tokens
from search_spaces.network.decoder import Decoder
from search_spaces.network.model_files import read_tokenizer
from search_spaces.scenario import Scenario

FACT = "parent baselines"
"""The name of the fact: by what they are, the score with its error, and `weight_bytes`."""


@steps.add
class ParentBaselines(Step):
    """Wanted where a study is about a parent."""

    name = "parent_baselines"
    needs = ("train",)

    def wanted(self, plan: Plan) -> bool:
        """Whether there is a parent, and anything is searched."""
        return plan.parent is not None and plan.trials > 0

    def done(self, context: Context) -> bool:
        """Whether they are on record, where there is a parent."""
        return context.plan.parent is None or FACT in context.study.facts

    def run(self, context: Context) -> None:
        """Score them, and put them on record.

        Raises:
            EvaluationFailed: a loss is not finite.
        """
        scoring = evaluator(context)
        assert isinstance(scoring, FromParent)
        parent, space = scoring.parent_spec, context.study.space
        if doubt := doubt_of_tokens(read_tokenizer(scoring.parent), parent.vocab, scoring.task):
            context.progress.say(doubt)
        specs = [space.close(genotype) for genotype in uniform_networks(space, parent)]
        wanted = {_named(spec, parent): spec for spec in specs if _named(spec, parent)}
        rows: dict[str, dict[str, float]] = {}
        with context.progress.bar("scoring the parent and uniform bits", len(wanted)) as bar:
            for done, (what, spec) in enumerate(wanted.items(), 1):
                score, stored = scoring.score_to_nearest(spec), spec.cost(Scenario()).weight_bytes
                name = scoring.task.score_name
                rows[what] = {
                    name: score.value,
                    "error": score.standard_error,
                    "weight_bytes": stored,
                }
                context.progress.say(f"{what}: {score.value:.4f} {scoring.unit}, {size(stored)}")
                bar.update(done)
        add_fact(context.study, FACT, rows)


def _named(spec: Decoder, parent: Decoder) -> str:
    """What a network is, where it is the parent at equal bits; empty for others."""
    if spec == parent:
        return "the parent"
    if [layer.blocks for layer in spec.layers] != [layer.blocks for layer in parent.layers]:
        return ""
    return f"{spec.layers[0].bits.weight:g} bits, to nearest"
