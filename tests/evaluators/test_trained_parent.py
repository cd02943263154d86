"""A trained parent: its weights in a supernet, rounded matrices, and a folder that can go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.tasks.base import tasks
from evaluators.tasks.language import LanguageModelling
from evaluators.trained_parent.evaluator import FromParent
from evaluators.trained_parent.filling import filled_from
from evaluators.trained_parent.rounding import prepared_at, sites_of
from foundation.errors import DataError, EvaluationFailed, NoFile, SettingError
from search_spaces.alternatives import Alternatives
from search_spaces.around_a_network import source_of_space
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import load_model, save_model
from search_spaces.network.sublayers import Sublayer
from search_spaces.quantization.bits import Bits, WeightFormat
from search_spaces.quantization.rounding import round_to_bits

LAYER = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
SPEC = Decoder(d_model=16, layers=(LAYER, LAYER))


def around(spec: Decoder, **wanted: object) -> Space:
    names: dict[str, object] = {}
    exec(  # a file that this very project wrote
        source_of_space(spec, Alternatives.from_plain(wanted), name="around", about="it", defaults={}), names
    )
    space = names["space"]
    assert isinstance(space, Space)
    return space


@pytest.fixture(scope="module")
def model() -> Model:
    made = build(SPEC, seed=1)
    with torch.no_grad():  # norms as well, which begin as ones
        for number, weight in enumerate(made.parameters()):
            weight.mul_(1 + 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
    return made


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> LanguageModelling:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{i} bottles of beer on the wall, take {i % 7} down. " for i in range(2000)))
    made = tasks["language"].make(data=str(path), length=32, windows=4)
    assert isinstance(made, LanguageModelling)
    return made


@pytest.fixture
def evaluator(model: Model, task: LanguageModelling, tmp_path: Path) -> FromParent:
    parent = save_model(model, tmp_path / "parent", exact=True)
    tree = to_json(around(SPEC, bits=[4, 3]).root)
    return FromParent(task, tree, str(tmp_path / "library"), 1, parent=str(parent))


def at(spec: Decoder, bits: int) -> Decoder:
    return replace(spec, layers=tuple(replace(layer, bits=Bits(weight=bits)) for layer in spec.layers))


def test_the_supernet_computes_what_the_parent_does(model: Model, task: LanguageModelling) -> None:
    supernet = filled_from(around(SPEC, bits=[4]), model)
    tokens = task.validation()[0]
    rounded = {n: w.to(torch.bfloat16).float() if w.ndim > 1 else w for n, w in model.named_parameters()}
    assert torch.equal(
        supernet.subnet(SPEC)(tokens),
        torch.func.functional_call(model, rounded, (tokens,), tie_weights=False),
    )


@torch.no_grad()
def test_matrices_are_rounded_for_the_inputs_that_they_meet(model: Model, task: LanguageModelling) -> None:
    supernet = filled_from(around(SPEC, bits=[3]), model)
    tokens = task.train_batch(0, 0, 16)[0]
    first = next(iter(sites_of(supernet, SPEC, tokens)))
    prepared = prepared_at(supernet, first)
    key, shape, stored = next(where for where in prepared if where[0].endswith(".wq"))
    assert stored == WeightFormat(3)
    supernet.prepared.update(prepared)
    weight, ours = supernet.weights[key], supernet.slice_at(key, shape, stored)
    nearest = round_to_bits(weight, stored)
    assert torch.equal(ours, round_to_bits(ours, stored)), "whoever rounds again finds the same"
    read = first.inputs / first.inputs.square().mean(-1, keepdim=True).sqrt()
    read = read * supernet.weights[key.replace("mixer.wq", "norm")]
    off = [(read @ (each - weight).flatten(0, 1).mT).square().mean() for each in (ours, nearest)]
    assert off[0] < off[1]


@torch.no_grad()
def test_layers_with_their_norm_at_a_place_of_their_own_are_rounded_too(task: LanguageModelling) -> None:
    spec = replace(SPEC, layers=(LAYER, replace(LAYER, norm_place="after")))
    supernet = filled_from(around(spec, bits=[3]), build(spec, seed=1))
    sites = list(sites_of(supernet, spec, task.train_batch(0, 0, 4)[0]))
    assert [site.own.norm.place for site in sites] == ["before", "before", "after", "after"]
    assert all(prepared_at(supernet, site) for site in sites)


def test_a_copy_says_what_the_subnet_says(evaluator: FromParent) -> None:
    evaluator.train()
    supernet, tokens = evaluator.supernet, evaluator.task.validation()[0]
    assert {stored.bits for _, _, stored in supernet.prepared} == {4, 3}
    for bits in (16, 4, 3):
        subnet = supernet.subnet(at(SPEC, bits))
        assert torch.equal(subnet(tokens), subnet.extract()(tokens))
    assert evaluator.score(at(SPEC, 4), 0, 0).value != evaluator.score(at(SPEC, 3), 0, 0).value


def test_what_is_missing_or_damaged_is_made_again(evaluator: FromParent) -> None:
    with pytest.raises(NoFile, match=r"lacks what was prepared for layers\.0\.sequence_mixer"):
        evaluator.verify()
    with pytest.raises(EvaluationFailed, match="lacks"):
        _ = evaluator.supernet
    told: list[int] = []
    evaluator.train(lambda step, count: told.append(step))
    assert told == [1, 2, 3, 4]
    evaluator.verify()
    files = sorted(Path(evaluator.folder).glob("*.safetensors"))
    before = [load(path.read_bytes()) for path in files]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-3])
    changed = bytearray(files[2].read_bytes())
    changed[-1] ^= 1
    files[2].write_bytes(changed)
    with pytest.raises(NoFile):
        evaluator.verify()
    evaluator.train()
    for path, tensors in zip(files, before, strict=True):
        again = load(path.read_bytes())
        assert again.keys() == tensors.keys()
        assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_a_folder_of_another_parent_is_refused(evaluator: FromParent, tmp_path: Path) -> None:
    evaluator.train()
    save_model(build(SPEC, seed=2), tmp_path / "other")
    with pytest.raises(DataError, match="made with another parent"):
        replace(evaluator, parent=str(tmp_path / "other")).train()


def test_a_space_that_lacks_the_parent_is_refused(evaluator: FromParent) -> None:
    evaluator.check(around(SPEC))
    with pytest.raises(SettingError, match=r"does not hold the network of .*; `nas space-around"):
        evaluator.check(around(replace(SPEC, d_model=32)))


def test_windows_and_empty_places_need_no_weights_of_their_own(evaluator: FromParent) -> None:
    chosen = replace(evaluator, space_json=to_json(around(SPEC, bits=[0], windows=[8], skip=True).root))
    chosen.train()
    assert not chosen.supernet.prepared
    window = replace(LAYER, sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=8))
    for layer in (window, replace(LAYER, channel_mixer=None), replace(LAYER, sequence_mixer=Skip())):
        spec = replace(SPEC, layers=(LAYER, layer))
        assert chosen.score(spec, 0, 0).value != chosen.score(SPEC, 0, 0).value


def test_kinds_that_the_parent_lacks_learn_to_do_what_it_does(evaluator: FromParent) -> None:
    choice: Any = one_of(LAYER.sequence_mixer, ShortConv())
    tree = replace(SPEC, layers=(replace(LAYER, sequence_mixer=choice), LAYER))
    chosen = replace(evaluator, space_json=to_json(tree), steps=30, folder=evaluator.folder + "-mixers")
    chosen.train()
    spec = replace(SPEC, layers=(replace(LAYER, sequence_mixer=ShortConv()), LAYER))
    supernet, blank = chosen.supernet, filled_from(Space(tree), load_model(chosen.parent))
    tokens = chosen.task.validation()[0]
    wanted = supernet.subnet(SPEC)(tokens)
    off = [(each.subnet(spec)(tokens) - wanted).square().mean() for each in (supernet, blank)]
    assert off[0] < off[1]


@torch.no_grad()
def test_fewer_heads_of_keys_are_means_of_neighbours(task: LanguageModelling) -> None:
    wide = replace(LAYER, sequence_mixer=Attention(num_heads=4, num_kv_heads=4, head_dim=8))
    spec = replace(SPEC, layers=(wide,))
    model = build(spec, seed=3)
    supernet = filled_from(around(spec, bits=[4], kv_heads=[2]), model)
    site = next(iter(sites_of(supernet, spec, task.train_batch(0, 0, 4)[0])))
    supernet.prepared.update(prepared_at(supernet, site))
    few = replace(wide, sequence_mixer=Attention(num_heads=4, num_kv_heads=2, head_dim=8))
    name = "layers.0.sequence_mixer.mixer.wk"
    own = dict(model.named_parameters())[name]
    pooled = own.view(2, 2, 8, 16).mean(1).bfloat16().float()
    assert torch.equal(supernet.subnet(replace(spec, layers=(few,))).weights()[name], pooled)
    assert torch.equal(supernet.subnet(spec).weights()[name], own.bfloat16().float())


@torch.no_grad()
def test_channels_that_stay_make_good_what_went(model: Model, task: LanguageModelling) -> None:
    supernet = filled_from(around(SPEC, bits=[4], narrower=[0.75]), model)
    places = sites_of(supernet, SPEC, task.train_batch(0, 0, 16)[0])
    site = next(each for each in places if each.own.path == "layers.0.channel_mixer")
    small = next(each for each in site.alternatives if each.block != site.own.block and each.bits == Bits())
    rounded = replace(small, bits=Bits(weight=4))

    def off(sublayer: Sublayer) -> float:
        wanted = BorrowedSublayer(supernet, site.own)(site.inputs).y
        return float((BorrowedSublayer(supernet, sublayer)(site.inputs).y - wanted).square().mean())

    sliced = off(small), off(rounded)
    supernet.prepared.update(prepared_at(supernet, site))
    assert off(small) < 0.7 * sliced[0]
    assert off(rounded) < 0.8 * sliced[1]


@torch.no_grad()
def test_mixers_begin_with_the_projections_of_attention(model: Model) -> None:
    mixers = ["linear_attention", "gated_delta_net", "mamba2"]
    weights = filled_from(around(SPEC, bits=[0], mixers=mixers), model).weights
    place = "layers.1.sequence_mixer"
    own = {name: weights[f"{place}:Attention.mixer.{name}"] for name in ("wq", "wk", "wv", "wo")}
    shared = own["wk"].expand(2, 8, 16)  # one head of keys for both heads
    assert torch.equal(weights[f"{place}:LinearAttention.mixer.wq"], own["wq"])
    assert torch.equal(weights[f"{place}:LinearAttention.mixer.wk"], shared)
    assert torch.equal(weights[f"{place}:GatedDeltaNet.mixer.wqk"][1], shared)
    assert torch.equal(weights[f"{place}:Mamba2.mixer.wx"], own["wv"].expand(2, 8, 16))
    assert torch.equal(weights[f"{place}:Mamba2.mixer.wbc"][1], own["wq"].mean(0))
    for kind in ("LinearAttention", "GatedDeltaNet", "Mamba2"):
        assert torch.equal(weights[f"{place}:{kind}.mixer.wo"], own["wo"])
        assert torch.equal(weights[f"{place}:{kind}.norm"], weights[f"{place}:Attention.norm"])
