"""MnasNet (Tan et al. 2019, arXiv:1807.11626): a policy learns to propose, by REINFORCE or PPO.

The reward of a candidate m is that of the paper's equation 2, for a target T of its cost:

    reward(m) = quality(m) * (cost(m) / T) ^ w        w = alpha where cost(m) <= T, else beta

The soft form, alpha = beta = -0.07, trades: the paper observes that twice the latency brings about 5 % of
quality. The hard form, alpha = 0 and beta = -1, pays for nothing below the target and refuses what is far
above it. Quality is the objective itself where it is maximised, else 1 / (1 + objective), so that smaller
losses and errors are better and none is infinite. What could not be scored has reward 0, the least there is.

The policy answers gene after gene, as a space asks them, so questions of branches that were not chosen have
no part in it. It knows what was answered before (as a neural autoregressive density, Larochelle and Murray
2011): with vectors e of all answers so far, answer a to gene g has the logit b_ga + v_ga . tanh(sum of e).

It learns from whole batches of trials, by their numbers, so that proposals do not depend on the order in
which workers finish. Architectures may be proposed again; the driver answers those from its records.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from foundation.errors import SettingError, SpaceError
from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.strategies.base import Proposal, Strategy, strategies
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import PATIENCE, TRIES

LOG_PROBABILITY = "log_probability"
"""In a trial's memo: that of its answers under the policy that proposed it."""

EXPONENTS = {"soft": (-0.07, -0.07), "hard": (0.0, -1.0)}
"""Alpha and beta of the two forms: section 3.1 and figure 3 of the paper."""

OVERDUE = 4
"""A batch is learned without a trial that was not heard of when one so many batches later was."""


@dataclass(frozen=True, kw_only=True)
class MnasNetSettings(Settings):
    """The reward, and how the policy learns it."""

    title = "strategy mnasnet"

    algorithm: str = setting(
        "ppo", help="How the policy learns: proximal steps, or plain ones.", choices=("ppo", "reinforce")
    )
    quality: str = setting("", help="The objective that is rewarded.", shown="the first one")
    cost: str = setting("", help="The objective that the target is for.", shown="the second one")
    target: float | None = setting(
        None,
        help="The cost to aim at, in its unit.",
        above=0,
        most=1e18,
        shown="the median of the first batch",
    )
    form: str = setting(
        "soft",
        help="soft: cost is traded against quality; hard: only what is above the target pays.",
        choices=("soft", "hard"),
    )
    alpha: float | None = setting(
        None, help="The exponent of cost / target up to the target.", least=-10, most=0, shown="by form"
    )
    beta: float | None = setting(None, help="The same above it.", least=-10, most=0, shown="by form")
    batch: int = setting(16, help="Trials that the policy learns from at a time.", least=2, most=10**5)
    learning_rate: float = setting(0.03, help="That of Adam.", above=0, most=10)
    epochs: int = setting(3, help="Steps on each batch (ppo only).", least=1, most=1000)
    clip: float = setting(0.2, help="How far a step may change a probability (ppo only).", above=0, below=1)
    entropy: float = setting(0.4, help="Weight of the policy's entropy, in nats a gene.", least=0, most=10)
    hidden: int = setting(16, help="Length of the vectors of answers.", least=1, most=4096)


class _Heard(NamedTuple):
    """A trial as the policy learns it; None where it could not be scored."""

    answers: Tensor
    log_probability: float
    quality: float | None
    cost: float | None


@strategies.add
class MnasNet(Strategy):
    """Reinforcement learning: a policy over the genes is rewarded by quality x (cost / target) ^ w."""

    name = "mnasnet"
    use = "where one reward is wanted, and candidates come by the thousand"
    settings_kind = MnasNetSettings
    settings: MnasNetSettings

    def prepare(self) -> None:
        """A policy that has learned nothing."""
        super().prepare()
        self._quality, self._cost = self._objectives()
        self._genes = {gene.path: index for index, gene in enumerate(self.space.genes)}
        self._policy = _Policy(
            [len(gene.labels) for gene in self.space.genes], self.settings.hidden, self.seed
        )
        self._optimizer = torch.optim.Adam(self._policy.parameters(), lr=self.settings.learning_rate)
        self._target = self.settings.target
        self._told: dict[int, _Heard] = {}
        self._learned = self._newest = 0  # batches, and one more than the highest number heard of

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That the policy learns nothing before the first batch is full."""
        assert isinstance(settings, MnasNetSettings)
        if trials > settings.batch:
            return ""
        return (
            f"{argument('trials', trials)}: mnasnet learns after batches of {settings.batch} trials, so"
            " this is a random search; give more trials, or a smaller batch"
        )

    def propose(self, number: int, dice: Random) -> Proposal:
        """What the policy answers, gene after gene."""
        objection: str | None = None
        for count in range(TRIES):
            genotype, spec = self.space.draw(_Answers(self._policy, self._genes, dice))
            objection = self.space.objection(spec)
            if objection is not None and count >= PATIENCE:
                moved = self.space.moved_to_allowed(genotype)
                genotype, spec = moved or (genotype, spec)
                objection = None if moved else objection
            if objection is None:
                return Proposal(genotype, self._memo(genotype), spec)
        raise SpaceError(f"{self.space.name}: none of {TRIES} draws is allowed; the last: {objection}")

    def moved(self, proposal: Proposal, genotype: Genotype, spec: Any) -> Proposal:
        """The proposal at another architecture, with the probability of that."""
        return Proposal(genotype, self._memo(genotype), spec)

    def tell(self, trial: Trial) -> None:
        """Learn from each batch of trials once all of them are heard."""
        if trial.number // self.settings.batch >= self._learned:
            self._told[trial.number] = self._heard(trial)
        self._newest = max(self._newest, trial.number + 1)
        while self._is_due(self._learned):
            start = self._learned * self.settings.batch
            numbers = range(start, start + self.settings.batch)
            self._learn([self._told.pop(number) for number in numbers if number in self._told])
            self._learned += 1

    def reward(self, quality: float, cost: float) -> float:
        """The paper's equation 2 for values of the two objectives, with the target that is aimed at.

        Raises:
            SettingError: no target is known yet.
        """
        if self._target is None:
            raise SettingError("the target is the median of the first batch, which was not heard yet")
        name, maximised = self._quality
        good = quality if maximised else 1 / (1 + quality)
        if not good >= 0 or not cost >= 0:
            raise SettingError(f"mnasnet multiplies: {name} and {self._cost} must not be negative")
        alpha, beta = EXPONENTS[self.settings.form]
        alpha = alpha if self.settings.alpha is None else self.settings.alpha
        beta = beta if self.settings.beta is None else self.settings.beta
        # a cost of nothing is as good as one of a millionth: a power of 0 is infinite
        return float(good * max(cost / self._target, 1e-6) ** (alpha if cost <= self._target else beta))

    def _objectives(self) -> tuple[tuple[str, bool], str]:
        """What is rewarded, with whether it is maximised, and what it costs."""
        goals, settings = dict(self.goals), self.settings
        for setting_name in ("quality", "cost"):
            if (name := getattr(settings, setting_name)) and name not in goals:
                raise SettingError(
                    f"strategy mnasnet: {argument(setting_name)} is one of {', '.join(goals)}, got {name!r}"
                )
        quality = settings.quality or next((name for name in goals if name != settings.cost), "")
        cost = settings.cost or next((name for name in goals if name != quality), "")
        if not quality or not cost or quality == cost:
            raise SettingError(f"strategy mnasnet needs a quality and a cost, two objectives: got {[*goals]}")
        if goals[cost]:
            raise SettingError(f"strategy mnasnet: {cost} is maximised, so it is no cost")
        return (quality, goals[quality]), cost

    def _answers(self, genotype: Genotype) -> Tensor:
        """The genes and their answers in the order in which they are asked, [T, 2]."""
        asked: list[tuple[int, int]] = []

        def note(path: str, labels: tuple[Label, ...]) -> Label:
            label = genotype.genes[path]
            asked.append((self._genes[path], _index(labels, label)))
            return label

        self.space.draw(note)
        return torch.tensor(asked, dtype=torch.long).reshape(-1, 2)

    def _memo(self, genotype: Genotype) -> dict[str, Any]:
        with torch.no_grad():
            (log_probability,), _ = self._policy([self._answers(genotype)])
        return {PARENTS: [], LOG_PROBABILITY: float(log_probability)}

    def _heard(self, trial: Trial) -> _Heard:
        answers = self._answers(trial.genotype)
        memo = trial.memo if LOG_PROBABILITY in trial.memo else self._memo(trial.genotype)
        values = trial.values if trial.state is TrialState.COMPLETE else {}
        quality, cost = (values[n].value if n in values else None for n in (self._quality[0], self._cost))
        return _Heard(answers, float(memo[LOG_PROBABILITY]), quality, cost)

    def _is_due(self, batch: int) -> bool:
        """Whether all of a batch was heard of, or as much as ever will be."""
        size = self.settings.batch
        numbers = range(batch * size, (batch + 1) * size)
        return all(number in self._told for number in numbers) or self._newest > (batch + OVERDUE) * size

    def _learn(self, heard: Sequence[_Heard]) -> None:
        """Steps towards what was rewarded above the mean of the batch."""
        if self._target is None:
            costs = [each.cost for each in heard if each.cost]
            self._target = statistics.median(costs) if costs else None
        if self._target is None or not heard:
            return
        rewards = torch.tensor(
            [
                0.0 if each.quality is None or each.cost is None else self.reward(each.quality, each.cost)
                for each in heard
            ],
            dtype=torch.float64,
        )
        spread = float(rewards.std(correction=0))
        if spread <= 1e-12 * float(rewards.abs().max()):  # all alike: nothing to learn
            return
        advantages = (rewards - rewards.mean()) / spread
        answers = [each.answers for each in heard]
        before = torch.tensor([each.log_probability for each in heard], dtype=torch.float64)
        for _ in range(self.settings.epochs if self.settings.algorithm == "ppo" else 1):
            self._optimizer.zero_grad()
            after, entropy = self._policy(answers)
            gain = self._gain(after, before, advantages) + self.settings.entropy * entropy
            (-gain).backward()
            self._optimizer.step()

    def _gain(self, after: Tensor, before: Tensor, advantages: Tensor) -> Tensor:
        """What is maximised: of log-probabilities [B] after and before, and advantages [B]."""
        if self.settings.algorithm == "reinforce":
            return (after * advantages).mean()
        ratio, clip = (after - before).clamp(max=20).exp(), self.settings.clip
        return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


class _Policy(nn.Module):
    """A distribution over answers that begins uniform; G genes of at most L options, vectors of H numbers."""

    def __init__(self, options: Sequence[int], hidden: int, seed: int) -> None:
        super().__init__()
        shape, chance = (len(options), max(options, default=1)), _generator(seed)
        self.bias_GL = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.read_GLH = nn.Parameter(torch.zeros(*shape, hidden, dtype=torch.float64))
        vectors = torch.randn(*shape, hidden, dtype=torch.float64, generator=chance)
        self.vectors_GLH = nn.Parameter(vectors / math.sqrt(max(1, len(options))))
        absent = torch.arange(shape[1]) >= torch.tensor(list(options)).reshape(-1, 1)
        self.absent_GL: Tensor
        self.register_buffer("absent_GL", absent)

    def forward(self, answers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of B architectures [B] by their answers, [T, 2] each, and the mean entropy."""
        padded_BT2 = nn.utils.rnn.pad_sequence(list(answers), batch_first=True)
        lengths = torch.tensor([len(each) for each in answers])
        is_asked_BT = torch.arange(padded_BT2.shape[1]) < lengths[:, None]
        genes_BT, given_BT = padded_BT2.unbind(-1)
        vectors_BTH = self.vectors_GLH[genes_BT, given_BT] * is_asked_BT[..., None]
        logs_BTL = self.log_probabilities(genes_BT, vectors_BTH.cumsum(1) - vectors_BTH)
        chosen_BT = logs_BTL.gather(-1, given_BT[..., None])[..., 0]
        entropy_BT = -(logs_BTL.exp() * logs_BTL.clamp(min=-1e3)).sum(-1)
        entropy = (entropy_BT * is_asked_BT).sum() / is_asked_BT.sum().clamp(min=1)
        return (chosen_BT * is_asked_BT).sum(1), entropy

    def log_probabilities(self, genes: Tensor, before: Tensor) -> Tensor:
        """Of the options [..., L] of genes [...], where the vectors of the answers before sum to [..., H]."""
        logits = self.bias_GL[genes] + torch.einsum("...lh,...h->...l", self.read_GLH[genes], before.tanh())
        return logits.masked_fill(self.absent_GL[genes], -1e9).log_softmax(-1)


class _Answers:
    """Answers drawn from a policy, one question after the other."""

    def __init__(self, policy: _Policy, genes: Mapping[str, int], dice: Random) -> None:
        self._policy, self._genes, self._dice = policy, genes, dice
        self._before = torch.zeros(policy.vectors_GLH.shape[-1], dtype=torch.float64)

    @torch.no_grad()
    def __call__(self, path: str, labels: tuple[Label, ...]) -> Label:
        gene = self._genes[path]
        logs = self._policy.log_probabilities(torch.tensor(gene), self._before)[: len(labels)]
        (chosen,) = self._dice.choices(range(len(labels)), weights=logs.exp().tolist())
        self._before = self._before + self._policy.vectors_GLH[gene, chosen]
        return labels[chosen]


def _index(labels: tuple[Label, ...], label: Label) -> int:
    """The place of a label, of its own type: 1 is not True."""
    return next(i for i, own in enumerate(labels) if type(own) is type(label) and own == label)


def _generator(seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"mnasnet/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
