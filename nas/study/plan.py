"""The settings of a study: plain values, stored with it, so that `nas resume` needs only its name.

The command line's options, `nas.search`, the checks and the help are made from the descriptions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evaluators.training.recipe import Recipe
from foundation.errors import SettingError, told_of
from foundation.settings import MANY, SEEDS, Settings, changed, describe, setting
from foundation.text import listed
from foundation.wording import argument
from nas.modifiers.lists import modifiers_of, texts_of
from search_spaces.devices import check_trainable
from search_spaces.language.space import Space
from search_spaces.scenario import Scenario

SCENARIO_MARK = "@"
"""Between an objective and the scenario that it is asked under: `decode_ms@chat`."""

DATA_VOCAB, MOST_VOCAB = 0, 2**20
"""The vocabulary of the data, and the largest that is given."""

MEASURABLE = ("latency", "memory", "energy", "serving")
"""What can be measured of a network on a device."""

GOALS, SEARCH, TRAINING, LATENCY, FINALISTS = "Goals", "Search", "Training", "Latency", "Finalists"
"""Headings of the settings."""


@dataclass(frozen=True, kw_only=True)
class Plan(Settings):
    """Everything that decides the outcome of a study, except its space.

    `settings` are those of the strategy where the engine asks one ("ofa"), else of the engine. A `supernet`
    that was trained before fixes `recipe`, `train_steps`, `train_batch`, `window` and `validation_windows`.
    Networks are trained and scored on `train_on`; each scenario says where they are timed, on this machine
    or, with `time_on`, on a device of a Ray cluster.

    Raises:
        SettingError: a value is out of range, or two settings contradict each other.
    """

    objectives: tuple[str, ...] = setting(
        ("bits_per_byte", "decode_ms", "weight_bytes"),
        help="What to trade off, which also chooses the task that is learned; `nas objectives` lists them.",
        option="objective",
        short="o",
        repeated=True,
        group=GOALS,
    )
    constraints: tuple[str, ...] = setting(
        (),
        help="A bound on what is known before training, e.g. 'decode_ms<5'; or a gate, on the score of a"
        " task: what breaks 'recall_error<0.05' is not trained on other tasks.",
        option="constraint",
        short="c",
        repeated=True,
        group=GOALS,
    )
    scenarios: tuple[Scenario, ...] = setting(
        (Scenario(),),
        help="How the network will be used: values of"
        f" {listed(d.name for d in describe(Scenario) if d.name != 'name')}, e.g."
        " 'cuda:0,batch=8,prompt=512,dtype=bfloat16'. Several need names, e.g. 'chat=cpu,new_tokens=128': an"
        " objective such as decode_ms then stands for each of them.",
        option="scenario",
        repeated=True,
        shown="cpu",
        group=GOALS,
    )
    trials: int = setting(
        300, help="Candidates to score in all.", least=0, most=MANY, changeable=True, group=SEARCH
    )
    engine: str = setting(
        "ofa", help="How the shared weights are searched; `nas engines` lists them.", group=SEARCH
    )
    strategy: str = setting(
        "auto",
        help="Strategy that proposes candidates (engine ofa only); `nas strategies` lists them.",
        group=SEARCH,
    )
    settings: Mapping[str, Any] = setting(
        default_factory=dict,
        help="A setting of the engine or, with the engine ofa, of the strategy, e.g. start=24.",
        option="setting",
        metavar="NAME=VALUE",
        repeated=True,
        group=SEARCH,
    )
    seed: int = setting(0, help="Random seed.", least=0, most=SEEDS, group=SEARCH)
    seed_from: tuple[str, ...] = setting(
        (),
        help="Begin with the best candidates of another study in this store, and learn from its values; or"
        " 'zoo': with the published architectures that lie in the space.",
        option="seed-from",
        metavar="STUDY|zoo",
        repeated=True,
        shown="nothing",
        group=SEARCH,
    )
    seeds_first: int = setting(
        8, help="Of those candidates, how many are proposed first.", least=0, most=10**6, group=SEARCH
    )
    evaluator: str = setting(
        "supernet",
        help="What scores candidates: supernet (weights shared by all of them, trained once), or scratch"
        " (each is trained from scratch).",
        group=TRAINING,
    )
    supernet: str | None = setting(
        None,
        help="Search with a supernet from `nas supernet train`, without training; its settings of training"
        " are used.",
        metavar="FOLDER",
        shown="train one",
        group=TRAINING,
    )
    parent: str | None = setting(
        None,
        help="Search around a trained network, in a folder that `nas import` or `nas export` wrote:"
        " candidates have its weights, and train-steps is how long blocks that it lacks are aligned to it.",
        metavar="FOLDER",
        shown="train the weights",
        group=TRAINING,
    )
    train_on: str = setting(
        "cpu",
        help="Device that networks are trained and scored on: cpu, or cuda:0.",
        metavar="DEVICE",
        group=TRAINING,
    )
    train_steps: int = setting(
        250,
        help="Training steps of the supernet, or of each candidate.",
        least=1,
        most=MANY,
        group=TRAINING,
    )
    scheduler: str = setting(
        "full",
        help="How long each candidate is trained (evaluator scratch): full, or briefly unless it is among the"
        " best, e.g. halving; `nas schedulers` lists all.",
        group=TRAINING,
    )
    rungs: tuple[int, ...] = setting(
        (),
        help="Training steps after which a scheduler decides which candidates go on to train-steps, e.g."
        " 100,300.",
        least=1,
        most=MANY,
        shown="the scheduler's own: of halving two, train-steps times keep and keep squared",
        group=TRAINING,
    )
    train_batch: int = setting(
        16,
        help="Batch size: sequences that a network reads in a training step.",
        least=1,
        most=MANY,
        group=TRAINING,
    )
    window: int | None = setting(
        None,
        help="Tokens of a training or validation sequence.",
        least=1,
        most=MANY,
        shown="the task's own, 128 for text",
        group=TRAINING,
    )
    validation_windows: int | None = setting(
        None,
        help="Sequences that a score is the mean of.",
        least=1,
        most=MANY,
        shown="the task's own",
        group=TRAINING,
    )
    recipe: Recipe = setting(
        Recipe(),
        help="How weights are learned, by the supernet and by networks alone: a ready-made recipe"
        " (`nas recipes`) or FILE.json, and single settings of it, e.g. supernet.phases=shrinking,"
        " optimizer.decay=0.05 or precision=bfloat16.",
        metavar="NAME|FILE|SETTING=VALUE",
        repeated=True,
        group=TRAINING,
    )
    task_settings: Mapping[str, Any] = setting(
        default_factory=dict,
        help="A setting of one of the tasks that are learned (`nas tasks NAME`), e.g. recall.pairs=8, or how"
        " it is trained: recall.steps=500, recall.rates=3.",
        option="task",
        metavar="TASK.SETTING=VALUE",
        repeated=True,
        group=TRAINING,
    )
    shared_training: bool = setting(
        False,
        help="Train each network, or the supernet, once for all tasks, which take turns; without it, each"
        " task has a training of its own.",
        group=TRAINING,
    )
    data: str | None = setting(
        None,
        help="A folder or file of text, or a corpus that `nas corpus` prepared.",
        metavar="PATH",
        shown="the standard library's own source",
        group=TRAINING,
    )
    vocab: int | None = setting(
        None,
        help="Tokens of every network, in the place of the space's own number; `data`: as many as the data"
        " have.",
        named={"data": DATA_VOCAB},
        least=DATA_VOCAB,
        most=MOST_VOCAB,
        metavar="data|INTEGER",
        shown="the space's",
        group=TRAINING,
    )
    latency_tables: tuple[str, ...] = setting(
        (),
        help="A latency table for one of the scenarios: a file made by `nas profile`, or the name of an"
        " imported one.",
        option="latency-table",
        metavar="TABLE",
        repeated=True,
        shown="measure one",
        group=LATENCY,
    )
    roofline: str | None = setting(
        None,
        help="Estimate latency by the roofline of this device card (`nas devices`), and measure none.",
        metavar="CARD",
        group=LATENCY,
    )
    strict_table: bool = setting(
        False,
        help="Refuse a latency table that errs by more than 10 % on whole networks; else what it predicts is"
        " marked.",
        changeable=True,
        group=LATENCY,
    )
    profile_seconds: float = setting(
        30.0,
        help="Time to spend on measuring a latency table; what must be measured may take longer.",
        least=0,
        most=1e7,
        unit="s",
        changeable=True,
        group=LATENCY,
    )
    time_on: str | None = setting(
        None,
        help="Time networks on this device of a Ray cluster (resource 'device:DEVICE'), not on this machine.",
        metavar="DEVICE",
        group=LATENCY,
    )
    measure: tuple[str, ...] = setting(
        (),
        help="What to measure of the front besides what is traded off or bounded, e.g. memory,energy.",
        choices=MEASURABLE,
        metavar="KIND,...",
        shown="nothing",
        changeable=True,
        group=LATENCY,
    )
    zero_cost: tuple[str, ...] = setting(
        (),
        help="Scores at the initial weights that are recorded of every candidate, e.g. synflow,snip; `nas"
        " validate` says what they are worth.",
        metavar="NAME,...",
        shown="none",
        group=SEARCH,
    )
    finalists: int = setting(
        6,
        help="Networks to train from scratch at the end, spread over the front.",
        least=0,
        most=10**6,
        group=FINALISTS,
    )
    finalist_steps: tuple[int, ...] = setting(
        (100, 300, 800),
        help="Training steps of the finalists, rung by rung.",
        least=1,
        most=MANY,
        group=FINALISTS,
    )
    keep: float = setting(
        1 / 3,
        help="Fraction of a rung promoted to the next (successive halving): of the finalists, and of the"
        " candidates of a scheduler.",
        shown="1/3",
        above=0,
        most=1,
        group=FINALISTS,
    )
    baselines: tuple[str, ...] = setting(
        (),
        help="Networks that the finalists are held against, trained by the same recipe: architectures of the"
        " zoo, sized to the space, or files, with commas, e.g. zoo:transformer,zoo:mamba2,FILE.json; none"
        " switches them off.",
        option="baseline",
        metavar="NAME,...",
        shown="those of the space, or none",
        changeable=True,
        group=FINALISTS,
        named={"none": ()},
    )
    final_seeds: int = setting(
        1,
        help="Random seeds that the networks of the last rung, and baselines beside it, are trained with.",
        least=1,
        most=MANY,
        changeable=True,
        group=FINALISTS,
    )
    then: tuple[str, ...] = setting(
        (),
        help="A modifier (`nas modifiers`) that is applied at the end to the networks that were trained"
        " longest, or FILE.json with a list of them. Repeat it for several, one after the other;"
        " `none` takes back what the study had.",
        option="then",
        metavar="NAME[,SETTING=VALUE...]|FILE.json",
        repeated=True,
        shown="nothing",
        changeable=True,
        group=FINALISTS,
    )
    source: str | None = setting(None, help="Where the space is defined.", changeable=True, hidden=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.objectives:
            raise SettingError("a study needs at least one objective")
        if len(set(self.objectives)) != len(self.objectives):
            raise SettingError(f"objectives are named twice: {', '.join(self.objectives)}")
        if self.finalists and not self.finalist_steps:
            raise SettingError(f"finalists need {argument('finalist_steps')}, or {argument('finalists', 0)}")
        if self.finalists and list(self.finalist_steps) != sorted(set(self.finalist_steps)):
            raise SettingError(
                f"{argument('finalist_steps')} must be strictly increasing, got {self.finalist_steps}"
            )
        if self.time_on is not None and self.roofline is not None:
            raise SettingError(f"latency is measured on {self.time_on} or estimated from a card: choose one")
        if self.data is not None and not self.data.strip():
            raise SettingError(f"{argument('data')} must not be empty: name a text, or leave it out")
        if self.then:
            modifiers_of(self.then)
        check_trainable(self.train_on)
        check_scenarios(self.scenarios)

    def under(self, name: str, scenario: Scenario) -> str:
        """What a number is called in one of the scenarios: `decode_ms@chat`; with only one, `decode_ms`."""
        return f"{name}{SCENARIO_MARK}{scenario.name}" if len(self.scenarios) > 1 else name

    def require_same(self, other: Plan) -> None:
        """Raise `SettingError` where `other` would turn this study into another one.

        Only `changeable` settings may differ between runs.
        """
        if unlike := self.recipe.unlike(other.recipe):
            raise SettingError(f"this study was started with another recipe ({unlike}): choose another name")
        options = {described.name: described.option for described in describe(Plan)}
        for name, mine, theirs in changed(self, other):
            started = argument(name, mine, option=options[name])
            now = argument(name, theirs, option=options[name])
            raise SettingError(f"this study was started with {started}, not {now}: choose another name")

    def continued_by(self, other: Plan) -> Plan:
        """The same plan with as many trials as either; what else may change is as `other` asks for it."""
        return replace(
            self,
            trials=max(self.trials, other.trials),
            strict_table=other.strict_table,
            profile_seconds=other.profile_seconds,
            measure=other.measure,
            baselines=other.baselines,
            final_seeds=max(self.final_seeds, other.final_seeds),
            then=other.then,
        )


def plan_of(space: Space, given: Mapping[str, Any]) -> Plan:
    """The plan of a new study over this space: the settings that are given, else those that the space names.

    Raises:
        SettingError: a setting makes no sense, or one that the space names.
    """
    with told_of(f"defaults of the space {space.name}", SettingError):
        Plan.from_plain(space.defaults)
    then = {"then": texts_of(given["then"])} if given.get("then") else {}
    return Plan.from_plain({**space.defaults, **given, **then})


def check_scenarios(scenarios: tuple[Scenario, ...]) -> None:
    """Raise `SettingError` where there is none, or where one of several has no name of its own."""
    names = [scenario.name for scenario in scenarios]
    if not scenarios:
        raise SettingError("a study needs at least one scenario")
    if len(scenarios) > 1 and (not all(names) or len(set(names)) != len(names)):
        raise SettingError(
            f"several scenarios need names of their own, e.g. chat=batch=1,prompt=512: got {names}"
        )
