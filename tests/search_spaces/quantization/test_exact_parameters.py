"""What is no matrix stays in 32 bits, however many axes it has: in models, costs, supernets."""

from __future__ import annotations

import pytest
import torch

from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.space import Space
from search_spaces.network.cost import block_weight_bytes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.stored_weights import packed_weights
from search_spaces.network.sublayers import sublayers_of
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.rounding import round_all
from search_spaces.supernet import Supernet

D_MODEL = 64
EXAMPLES = [example for kind in blocks.values() for example in kind.examples()]


def decoder(block: Block, bits: Bits) -> Decoder:
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
    if block.mixes == "sequence":
        layer = Layer(sequence_mixer=block, channel_mixer=SwiGLU(), bits=bits)
    else:
        layer = Layer(sequence_mixer=attention, channel_mixer=block, bits=bits)
    return Decoder(vocab=16, d_model=D_MODEL, layers=(layer,))


def by_entry(model: Model) -> set[str]:
    """The parameters that are no matrices by their roles, but for the taps of a long filter."""
    small = {n for n, role in model.roles().items() if role.kind not in ("matrix", "embedding")}
    return {name for name in small if not name.endswith(".taps")}


@pytest.mark.parametrize("bits", [Bits(), Bits(weight=4), Bits(weight=8, numbers="float")], ids=str)
@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_what_works_by_entry_stays_as_it_is(block: Block, bits: Bits) -> None:
    model = build(decoder(block, bits), seed=0)
    formats, exact = weight_bits(model), by_entry(model)
    assert not [name for name in exact if formats[name] is not None]
    rounded = round_all(dict(model.named_parameters()), formats)
    assert all(rounded[name] is weight for name, weight in model.named_parameters() if name in exact)


@pytest.mark.parametrize("bits", [Bits(), Bits(weight=4)], ids=str)
@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_bytes_are_those_of_what_is_stored(block: Block, bits: Bits) -> None:
    model = build(decoder(block, bits), seed=0)
    place = "sequence_mixer" if block.mixes == "sequence" else "channel_mixer"
    stored = {name: tensor for name, tensor in packed_weights(model).items() if f".{place}.mixer." in name}
    assert sum(tensor.nbytes for tensor in stored.values()) == block_weight_bytes(block, D_MODEL, bits.stored)


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_a_supernet_agrees_with_the_network_alone(block: Block) -> None:
    spec = decoder(block, Bits(weight=4))
    supernet = Supernet(Space(spec, name="one"), seed=0)
    alone = weight_bits(build(spec, seed=0))
    assert {each.name: each.bits for each in supernet.subnet(spec).bindings} == alone
    for sublayer in sublayers_of(spec):
        borrowed = BorrowedSublayer(supernet, sublayer)
        for name, (_, _, bits) in borrowed.bindings.items():
            own = name.partition(".mixer.")[2]
            if own and sublayer.block.stays_exact(own):
                assert bits is None, name


def test_decays_of_few_bits_are_the_decays() -> None:
    block = blocks["RGLRU"].examples()[0]
    model = build(decoder(block, Bits(weight=4)), seed=0)
    name = next(name for name, _ in model.named_parameters() if name.endswith(".decay"))
    assert model.get_parameter(name).dim() == 2
    rounded = round_all(dict(model.named_parameters()), weight_bits(model))
    assert torch.equal(rounded[name], model.get_parameter(name))
