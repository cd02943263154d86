"""Who of several processes does what of a step: networks are dealt out first, and only then rows of a batch.

A step reads several networks, each its own batch, and their gradients add up. A process that reads two of
four networks with the whole batch does half of the work on the GPU *and* starts half of the kernels; one that
reads four networks with half of the rows starts as many kernels as before, on tensors too small to keep a GPU
busy. Losses that are no mean over tokens (the balance of experts) see the whole batch, as alone.

With P processes and N networks there are gcd(N, P) teams, which deal the networks among themselves; the
processes of a team share the rows of their batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from evaluators.training.process_group import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Sharing:
    """What this process does: it is of team number `team` of `teams`, and one of the team's `readers`."""

    team: int = 0
    teams: int = 1
    readers: ProcessGroup = SINGLE_PROCESS

    @classmethod
    def of(cls, process_group: ProcessGroup, networks: int) -> Sharing:
        """For so many networks that read batches of their own; for 1, all processes share its rows."""
        teams = gcd(networks, process_group.count)
        readers = ProcessGroup(process_group.rank // teams, process_group.count // teams)
        return cls(process_group.rank % teams, teams, readers)

    def mine(self, costs: Sequence[float]) -> list[int]:
        """The numbers of the networks that this team reads, given what each of all costs.

        The dearest one goes first, always to the team that has least to do and room left: none has more than
        its number of networks, since each costs a program its time, however small it is.
        """
        room = -(-len(costs) // self.teams)
        dealt: list[list[int]] = [[] for _ in range(self.teams)]
        for number in sorted(range(len(costs)), key=lambda number: (-costs[number], number)):
            free = [team for team in range(self.teams) if len(dealt[team]) < room]
            least = min(free, key=lambda team: (sum(costs[other] for other in dealt[team]), team))
            dealt[least].append(number)
        return sorted(dealt[self.team])
