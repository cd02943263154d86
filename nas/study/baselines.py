"""Baselines: what a sceptic would choose, held against a front.

A baseline is an architecture of the zoo (`zoo:lfm2`), which is sized to the space, or a network in a file,
which is taken as it is. Both are read when a study is created, and kept on its record, so that it goes on
where a file is gone.

They come in sizes that stand beside the members of a rung: finalists that were trained from scratch for
equally many steps, or, where there are none and the search itself trains from scratch, its front. Up to
`SIZES` members that span the rung by their bytes each have a size of each baseline beside them (see
`search_spaces.sizing.matched`). So a baseline that is held against a winner was trained as long as the
winner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import FileError, NasError, SettingError, UnknownName, told_of
from foundation.files import read_json
from foundation.text import listed
from foundation.wording import argument
from nas.study.given_networks import genotype_of_given
from nas.study.plan import Plan
from nas.study.plan_objectives import is_decoder_space
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState
from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_plain, to_plain
from search_spaces.language.space import Space
from search_spaces.language.walk import closed_values
from search_spaces.network.decoder import Decoder
from search_spaces.sizing import at_sizes_of, decoders_of, matched, weight_bytes
from search_spaces.zoo import PREFIX as ZOO

STAGE = "baseline"
"""The stage of their trials."""

RECORD = "baselines"
"""Where a study's record keeps their architectures."""

SIZES = 3
"""Sizes of a baseline beside a rung, at most."""


@dataclass(frozen=True)
class Rung:
    """Networks of the front that were trained from scratch for equally many steps."""

    fidelity: Fidelity
    members: tuple[Trial, ...]


def wants_baselines(plan: Plan) -> bool:
    """Whether the plan names baselines, and trains something from scratch that they can be held against."""
    return bool(plan.baselines) and (plan.finalists > 0 or plan.evaluator == "scratch")


def name_of(entry: str) -> str:
    """What a baseline is called: `lfm2` of `zoo:lfm2`, `mine` of `nets/mine.json`."""
    return entry.removeprefix(ZOO) if entry.startswith(ZOO) else Path(entry).stem


def described_baselines(space: Space, plan: Plan, known: Mapping[str, Any]) -> dict[str, Any]:
    """The architectures of a plan's baselines as plain values by entry; `known` ones are not read again.

    Raises:
        SettingError: one cannot be read, is no network for this space, or two have one name.
        SpaceError: one cannot be built within the limits of the space.
    """
    if plan.baselines and not is_decoder_space(space):
        raise SettingError(f"{argument('baselines')}: only spaces of Decoder can be compared with others")
    names = [name_of(entry) for entry in plan.baselines]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingError(f"{argument('baselines')}: two are called {twice}")
    described = {}
    for entry in plan.baselines:
        architecture = from_plain(known[entry]) if entry in known else _read(entry)
        with told_of(f"baseline {entry}"):
            sizes_of(space, entry, architecture)
        described[entry] = to_plain(architecture)
    return described


def sizes_of(space: Space, entry: str, architecture: Decoder) -> list[Decoder]:
    """What a baseline may be in a space, smallest first: of a file only what it holds.

    Raises:
        SpaceError: it cannot be built within the limits of the space.
        IllegalArchitecture: it cannot be built at all.
        SettingError: it has another vocabulary.
    """
    if entry.startswith(ZOO):
        return at_sizes_of(space, architecture)
    architecture.check()
    vocabs = {size for root in decoders_of(space.root) for size in closed_values(root.vocab)}
    if architecture.vocab not in vocabs:
        raise SettingError(
            f"vocab is {architecture.vocab}, and in {space.name} it is {listed(map(str, sorted(vocabs)))}"
        )
    return [architecture]


def rungs_of(study: Study) -> list[Rung]:
    """What of the front was trained from scratch, by steps; the longest training comes last."""
    finals = [t for t in study.trials("final") if t.state is TrialState.COMPLETE]
    by_steps: dict[Fidelity, list[Trial]] = {}
    for trial in sorted(finals, key=lambda trial: trial.fidelity.steps):
        by_steps.setdefault(trial.fidelity, []).append(trial)
    if not by_steps and study.plan.evaluator == "scratch":
        for trial in study.predicted_front():
            by_steps.setdefault(trial.fidelity, []).append(trial)
    return [Rung(fidelity, tuple(members)) for fidelity, members in by_steps.items()]


def baselines_of(study: Study, rung: Rung) -> list[Genotype]:
    """The networks that are held against a rung.

    Raises:
        StoreError: the record of a baseline cannot be read.
    """
    beside = _spanning([study.spec(trial) for trial in rung.members])
    chosen: dict[Genotype, None] = {}
    for entry, plain in study.record.config.get(RECORD, {}).items():
        if entry in study.plan.baselines:
            sizes = sizes_of(study.space, entry, from_plain(plain))
            for member in beside:
                network = matched(sizes, member) if entry.startswith(ZOO) else sizes[0]
                chosen[genotype_of_given(name_of(entry), network)] = None
    return list(chosen)


def _spanning(members: Sequence[Decoder]) -> list[Decoder]:
    """Up to `SIZES` members from the smallest to the largest, evenly spaced in logarithms of their bytes."""
    ordered = sorted(members, key=weight_bytes)
    if len(ordered) <= SIZES:
        return ordered
    low, high = (math.log(weight_bytes(ordered[i])) for i in (0, -1))
    targets = [low + (high - low) * i / (SIZES - 1) for i in range(SIZES)]
    nearest = (min(ordered, key=lambda m: abs(math.log(weight_bytes(m)) - at)) for at in targets)
    return list(dict.fromkeys(nearest))


def _read(entry: str) -> Decoder:
    """The architecture that an entry names.

    Raises:
        SettingError: there is none of this name, or the file holds none.
    """
    from search_spaces.zoo import zoo  # fills itself from three dozen files

    if entry.startswith(ZOO):
        try:
            return zoo[entry.removeprefix(ZOO)].spec
        except UnknownName as error:
            raise UnknownName(f"baseline {entry}: {error}") from None
    if not entry.endswith(".json"):
        hint = f"{ZOO}{entry}" if entry in zoo else f"{ZOO}NAME (`nas zoo` lists them), or a FILE.json"
        raise SettingError(f"baseline {entry}: write {hint}")
    try:
        plain = read_json(entry)
        plain = plain[0] if isinstance(plain, list) and len(plain) == 1 else plain  # `nas zoo NAME --json`
        inner = plain["spec"] if isinstance(plain, dict) and "spec" in plain else plain
        architecture = from_plain(inner)
    except (FileError, NasError) as error:
        raise SettingError(f"baseline {entry} cannot be read: {error}") from None
    if not isinstance(architecture, Decoder):
        raise SettingError(
            f"baseline {entry} holds no network: write what `nas zoo NAME --json` prints, or the config.json"
            " of an export"
        )
    return architecture
