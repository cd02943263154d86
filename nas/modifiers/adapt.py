"""A network learns another text by few parameters: factors, channels, or what it reads before any text."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch

from evaluators.compression.adapters import Adapter, learned
from evaluators.compression.bottleneck import Bottleneck, new_values, widened, wider_spec
from evaluators.compression.damage import Damage, exchanged
from evaluators.compression.galore import GaLore
from evaluators.compression.low_rank import (
    AS_IT_IS,
    BASES,
    ENDS,
    PLACES,
    REST,
    Form,
    LowRank,
    Shape,
    UnequalRanks,
    matrices,
    vectors,
)
from evaluators.compression.merged import Course, Merged
from evaluators.compression.soft_prompts import (
    PrefixTraining,
    PromptTraining,
    prompted,
    prompted_spec,
)
from evaluators.training.recipe import Recipe
from foundation.errors import IllegalArchitecture, SettingError
from foundation.settings import MANY, setting
from foundation.text import listed
from foundation.wording import argument
from nas.modifiers.base import Changed, Modifier, Work, forward_flops, modifiers, recipe_setting
from nas.modifiers.fitting import fit_shown
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.soft_prompt import STATES, VECTORS, SoftPrompt
from search_spaces.scenario import Scenario

PROMPT_WINDOWS = 64
"""Windows of training text that are there for a soft prompt to begin with."""

DAMAGE_WINDOWS = 16
"""Windows of training text that what a lower rank takes away is measured on."""

PROMPTS = {"prompt": VECTORS, "prefix": STATES}
"""Methods that learn a soft prompt, and its form."""

TARGETS = (*PLACES, ENDS, REST)

METHODS = ("factors", "galore", "bottleneck", *PROMPTS)

OF_FACTORS = ("decompose", "base", "probe")
"""Settings that change what is learned, and only of factors."""

READ_BY = {
    "factors": ("rank", "alpha", "targets", *OF_FACTORS),
    "galore": ("rank", "alpha", "targets", "every"),
    "bottleneck": ("rank",),
    **dict.fromkeys(PROMPTS, ("tokens",)),
}
"""Settings that a method reads beside those of every one. In a space of several methods all may be open."""

READ_BY_ALL = ("steps", "batch", "recipe")


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Adapt(Modifier):
    """Learn the text (--data) by few parameters, which are then merged into the network.

    `factors` are low-rank factors of matrices (LoRA): few to train, no larger network after.
    With --decompose direction and norm of a row are learned apart (DoRA); --base nf4 is QLoRA: what the
    factors are added to is held in 4 bits, and made whole for one sublayer at a time. The merged network is
    stored at the bits of its layers.
    `galore` trains whole matrices and saves the optimizer's memory: its space has the rank.
    With --probe STEPS matrices have ranks by need, at no more trained parameters than with --rank everywhere.
    `bottleneck` gives every channel mixer that many new hidden channels and trains these alone: what was
    learned before stays whole beside them.
    `prompt` learns --tokens vectors that stand before every text, and `prefix` the decode state that every
    mixer begins with, as if so many tokens had been read: keys and values, memories, inputs of convolutions.
    Nothing else changes, and the network that comes out has them (`soft_prompt`).

    Matrices are those of any mixer, by what they do: they read the residual stream (input), write to it
    (output), neither (inner), or are experts; or they have a row for each token (embedding, and a head of its
    own). Those smaller than the rank stay as they are. With `vector` among the targets, what is no matrix
    (norms, biases, decays, filters of convolutions) is learned whole beside the factors: few values more, and
    mixers that have a state gain most by it.
    """

    name = "adapt"

    method: str = setting("factors", help="What is learned.", choices=METHODS)
    rank: int = setting(8, help="Rank of factors or space, or new channels.", least=1, most=4096)
    alpha: float = setting(16.0, help="What the factors count, times the rank.", above=0, most=MANY)
    tokens: int = setting(16, help="Virtual tokens of a prompt or prefix.", least=1, most=4096)
    targets: tuple[str, ...] = setting(
        ("input", "output"), help=f"Matrices: {', '.join((*PLACES, ENDS))}; and {REST}.", metavar="PLACE,..."
    )
    decompose: bool = setting(False, help="Learn norms apart from directions (DoRA).")
    base: str = setting(
        AS_IT_IS, help="How the weights are held that factors are added to (nf4: QLoRA).", choices=BASES
    )
    probe: int = setting(
        0,
        help="Steps of a first adaptation that says which matrices need a higher rank than others; 0: none.",
        least=0,
        most=MANY,
    )
    every: int = setting(200, help="Steps that GaLore stays in one space.", least=1, most=MANY)
    steps: int = setting(1000, help="Steps of training.", least=1, most=MANY)
    batch: int = setting(16, help="Sequences of a step.", least=1, most=MANY)
    recipe: Recipe = recipe_setting("factors")

    def check(self) -> None:
        """Targets must be known, and some."""
        wrong = [place for place in self.targets if place not in TARGETS]
        if wrong or not self.targets:
            found = repr(wrong[0]) if wrong else "none"
            raise SettingError(f"adapt: targets are some of {', '.join(TARGETS)}, got {found}")
        if self.method == "galore" and REST in self.targets:
            raise SettingError(f"adapt: galore trains whole matrices, so targets has no {REST}")
        for name in OF_FACTORS:
            if self.method != "factors" and getattr(self, name) not in (False, 0, AS_IT_IS):
                raise SettingError(f"adapt: {name} is for factors, and method is {self.method}")
        if self.probe and self.decompose:
            raise SettingError("adapt: probe is for factors without norms of their own (decompose)")

    def require_read(self, given: Iterable[str]) -> None:
        """Settings of another method are not written beside this one."""
        read = (*READ_BY[self.method], *READ_BY_ALL)
        if unread := [name for name in given if name not in ("method", *read)]:
            raise SettingError(
                f"adapt: {argument('method', self.method)} does not read"
                f" {listed(argument(name) for name in unread)}, but {listed(argument(name) for name in read)}"
            )

    def unsupported(self, spec: Decoder) -> str:
        """There must be such matrices, not all of them smaller than the rank; or channel mixers."""
        if self._prompt is not None:
            try:
                self._prompt.check(spec.layers)
            except IllegalArchitecture as error:
                return str(error)
            empty = not self._prompt.params(spec.d_model, spec.layers)
            return "no layer of the network has a decode state" if empty else ""
        if self.method == "bottleneck":
            same = wider_spec(spec, self.rank) == spec
            return "the network has no channel mixers that could get more channels" if same else ""
        twice = [index for index, layer in enumerate(spec.layers) if layer.precision is not None]
        if twice and self.base != AS_IT_IS:
            return f"layers.{twice[0]} reads its weights at two precisions, which a base of 4 bits has not"
        with torch.device("meta"):
            all_of_them = matrices(Model(spec), self.targets)
            rest = vectors(Model(spec), self.targets)
        if not all_of_them and rest and not self.probe:
            return ""
        if not all_of_them:
            return f"the network has no matrices that are {' or '.join(self.targets)}"
        name, largest = max(all_of_them.items(), key=lambda item: min(item[1].rows, item[1].inputs))
        if self.rank > min(largest.rows, largest.inputs):
            return f"rank {self.rank} is larger than every matrix, such as {name} of {largest}"
        return ""

    def changed(self, spec: Decoder) -> Decoder:
        """See `Modifier.changed`: new channels or a soft prompt, if so."""
        if self._prompt is not None:
            return prompted_spec(spec, self._prompt)
        return wider_spec(spec, self.rank) if self.method == "bottleneck" else spec

    def trainable(self, spec: Decoder) -> int:
        """See `Modifier.trainable`: the factors, whole matrices, new channels, or the soft prompt."""
        if self._prompt is not None:
            return self._prompt.params(spec.d_model, spec.layers)
        if self.method == "bottleneck":
            return new_values(spec, self.rank)
        shapes = self._matrices(spec).values()
        if self.method == "galore":
            return sum(shape.stacked * shape.rows * shape.inputs for shape in shapes)
        return sum(shape.factors(self._form) for shape in shapes) + sum(self._whole(spec).values())

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: three passes (four from a base of 4 bits), one for every rank of a matrix."""
        looks = 0
        if self.probe:
            looks = DAMAGE_WINDOWS * sum(len(self._ranks(shape)) for shape in self._matrices(spec).values())
        passes = 3 if self.base == AS_IT_IS else 4
        return forward_flops(spec, passes * (self.steps + self.probe) * self.batch + looks, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        before = model.spec
        training = self._training(model, work)
        fit_shown(training, work, "adapting", self.steps)
        count = sum(weight.numel() for weight in training.parameters.values())
        trained = count if self.probe else self.trainable(before)
        notes: dict[str, Any] = {"trained parameters": trained, "optimizer's values": 2 * count}
        if isinstance(training, UnequalRanks):
            shown = [f"{name.removeprefix('layers.')}={rank}" for name, rank in training.ranks.items()]
            notes["ranks"] = " ".join(shown)
        if isinstance(training, LowRank) and training.quantized is not None:
            notes["bytes of the base, of 4 bits"] = training.quantized.nbytes
        adapter = self._apart(training)
        return Changed(training.merge(), notes, adapter)

    def _apart(self, training: Merged) -> Adapter | None:
        """What was learned apart from the network that it was learned on; None where it is not kept."""
        if isinstance(training, PromptTraining):
            return training.learned()
        if not isinstance(training, LowRank) or self.base != AS_IT_IS:
            return None
        if ENDS in self.targets or training.whole:
            return None
        return learned(training)

    def _training(self, model: Model, work: Work) -> Merged:
        course = Course(steps=self.steps, seed=work.seed, batch=self.batch, recipe=self.recipe)
        if self._prompt is not None:
            text = work.calibration(PROMPT_WINDOWS)
            kind = PrefixTraining if self._prompt.form == STATES else PromptTraining
            return kind(prompted(model, self._prompt, text), work.task, **course)
        if self.method == "bottleneck":
            return Bottleneck(widened(model, self.rank), work.task, self.rank, **course)
        adapted = matrices(model, self.targets, self.rank)
        if self.method == "galore":
            return GaLore(model, work.task, self._form, adapted, self.every, **course)
        whole = vectors(model, self.targets)
        if self.probe:
            ranks = self._probed(model, work, adapted)
            return UnequalRanks(model, work.task, self._form, adapted, ranks, whole=whole, **course)
        return LowRank(model, work.task, self._form, adapted, whole=whole, **course)

    def _probed(self, model: Model, work: Work, adapted: dict[str, Shape]) -> dict[str, int]:
        """The rank of each matrix: the least damage to what a probe of higher ranks has learned."""
        from nas.engines.exact.shares import Effect, shared_out  # a command line shall not load the solver

        course = Course(steps=self.probe, seed=work.seed, batch=self.batch, recipe=self.recipe)
        highest = {name: self._ranks(shape)[-1] for name, shape in adapted.items()}
        training = UnequalRanks(deepcopy(model), work.task, self._form, adapted, highest, **course)
        folder = None if work.folder is None else work.folder / "probe"
        fit_shown(training, replace(work, folder=folder), "probing", self.probe)
        parts = {n: {r: training.of_rank(n, r) for r in self._ranks(s)} for n, s in adapted.items()}
        learned = training.merge()
        damage = Damage(learned, *work.task.train_batch(1, work.seed, DAMAGE_WINDOWS))
        effects: dict[str, dict[int, Effect]] = {}
        with work.progress.bar("measuring damage", len(parts)) as bar:
            for name, shape in adapted.items():
                effects[name] = {}
                for rank, weight in parts[name].items():
                    with exchanged(learned, {name: weight}) as moved:
                        amount = shape.factors(replace(self._form, rank=rank))
                        effects[name][rank] = Effect(damage.of(moved).kl, amount)
                bar.update(len(effects), name)
        return dict(shared_out(effects, self.rank).values)

    def _ranks(self, shape: Shape) -> list[int]:
        """Ranks that a matrix may have: none, powers of two up to four times the usual, and the usual."""
        most = min(shape.rows, shape.inputs, 4 * self.rank)
        return sorted({0, self.rank, *(2**power for power in range(most.bit_length()))})

    @property
    def _prompt(self) -> SoftPrompt | None:
        form = PROMPTS.get(self.method)
        return None if form is None else SoftPrompt(tokens=self.tokens, form=form)

    @property
    def _form(self) -> Form:
        return Form(self.rank, self.alpha, self.decompose, self.base)

    def _matrices(self, spec: Decoder) -> dict[str, Shape]:
        with torch.device("meta"):
            return matrices(Model(spec), self.targets, self.rank)

    def _whole(self, spec: Decoder) -> dict[str, int]:
        with torch.device("meta"):
            return vectors(Model(spec), self.targets)
