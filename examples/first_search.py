"""A search of your own: two kinds of mixers, three objectives, and the front."""

import nas
from search_spaces import Bits, Decoder, Layer, Scenario, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU

layer = Layer(
    sequence_mixer=one_of(
        Attention(num_heads=4, num_kv_heads=one_of(1, 2, 4), head_dim=16),  # MQA, GQA, MHA
        Mamba2(num_heads=4, head_dim=32, state_dim=one_of(16, 32)),
    ),
    channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)),
    bits=Bits(weight=one_of(4, 8, 16), state=one_of(8, 16)),
)
space = Space(Decoder(d_model=one_of(48, 64), layers=repeat(layer, depths=(2, 3))), name="mine")

if __name__ == "__main__":
    study = nas.search(
        space,
        name="mine",
        objectives=["bits_per_byte", "decode_ms", "weight_bytes"],
        constraints=["params<200e3"],
        scenarios=[Scenario(prompt=256, new_tokens=64)],
        trials=100,
        train_steps=100,
        finalists=0,
    )
    for trial in study.front():  # as measured: `~` marks a number that is only predicted
        numbers = study.numbers(trial)
        print(trial.digest, numbers["bits_per_byte"], numbers["decode_ms"], study.spec(trial))
