"""Adaptation: LoRA and DoRA on a network that transformers runs, GaLore, and bottleneck adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.compression.bottleneck import Bottleneck, new_values, widened
from evaluators.compression.galore import GaLore
from evaluators.compression.low_rank import PLACES, Form, LowRank, matrices
from evaluators.compression.merged import Course
from evaluators.tasks.recall import Recall
from evaluators.training.recipe import DEFAULT
from nas.modifier_checks.base import Measured, SystemCheck, checks, difference, random
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.checkpoints.against_transformers import quiet
from search_spaces.checkpoints.writing import write_folder
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding, Head
from search_spaces.network.model import Model, build

RANK, ALPHA, STEPS = 4, 8, 6
THEIR_NAMES = {"wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj"}
THEIR_NAMES |= {
    "wo": "self_attn.o_proj",
    "gated": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
EPSILON = 1e-16
"""That of Adam: theirs is not corrected as squared gradients are, which would show where those are small."""

COURSE = Course(steps=STEPS, seed=0, batch=16, recipe=replace(DEFAULT, clip=None))


def task() -> Recall:
    """What is learned."""
    return Recall.make(data=None, length=None, windows=None)


def llama() -> Model:
    """A network of Llama's form, as `nas export --to hf` writes it."""
    layer = Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=2, head_dim=8), channel_mixer=SwiGLU(expansion=2)
    )
    spec = Decoder(
        vocab=task().vocab,
        d_model=32,
        layers=(layer, layer),
        embedding=Embedding(scale=1.0),
        head=Head(tied=False),
    )
    return build(spec, seed=1).eval()


class _AgainstPeft(SystemCheck):
    reference, tolerance = "peft on our export to transformers", 1e-5
    needs = ("peft", "transformers")
    decompose: ClassVar[bool]

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        model, form = llama(), Form(RANK, ALPHA, self.decompose)
        adapted = matrices(model, PLACES, RANK)
        training = LowRank(model, task(), form, adapted, **COURSE)
        training._bits = dict.fromkeys(training._bits)  # in float32, as theirs
        with torch.no_grad():
            for index, (name, weight) in enumerate(training.parameters.items()):
                if name.endswith(".B"):
                    weight.copy_(0.1 * random(*weight.shape, seed=index))
        tokens = torch.randint(model.spec.vocab, (2, 20), generator=torch.Generator().manual_seed(0))
        with TemporaryDirectory() as folder, quiet():
            write_folder(model, Path(folder), family="llama")
            theirs, counted = _with_peft(folder, training)
            with torch.no_grad():
                said = theirs(tokens).logits
        with torch.no_grad():
            return Measured(
                difference(training.merge()(tokens), said),
                counted,
                sum(shape.factors(form) for shape in adapted.values()),
            )


def _with_peft(folder: str, training: LowRank) -> tuple[Any, int]:
    """Their model with our factors in peft's places, and how many values peft trains."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    wanted = [name.rpartition(".")[2] for name in THEIR_NAMES.values()]
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=wanted,
        use_dora=training.form.decompose,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).eval()
    places = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    for name in training.adapted:
        layer, own = name.split(".")[1], name.rpartition(".")[2]
        (place,) = (m for n, m in places.items() if n.endswith(f"layers.{layer}.{THEIR_NAMES[own]}"))
        with torch.no_grad():
            place.lora_A["default"].weight.copy_(training.parameters[f"{name}.A"][0])
            place.lora_B["default"].weight.copy_(training.parameters[f"{name}.B"][0])
    return model, sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@checks.add
class Lora(_AgainstPeft):
    """Logits with the same factors, ours merged and theirs beside the matrices."""

    name, decompose = "lora", False


@checks.add
class Dora(_AgainstPeft):
    """The same with norms apart from directions."""

    name, decompose = "dora", True


@checks.add
class GaLoreCheck(SystemCheck):
    """The matrices after some steps, over a change of the space, on the gradients of our own network."""

    name, reference, tolerance, counts = "galore", "galore_torch.GaLoreAdamW", 1e-5, "values of the optimizer"
    needs = ("galore_torch", "bitsandbytes")
    every = 4

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        from galore_torch.adamw import AdamW

        model, form = llama(), Form(RANK, ALPHA)
        training = _Recorded(model, task(), form, matrices(model, PLACES, RANK), self.every, **COURSE)
        for own in training.optimizer.param_groups:
            own["eps"] = EPSILON
        start = {name: training._matrix(name)[0].clone() for name in training.adapted}
        held = {name: torch.nn.Parameter(weight.clone()) for name, weight in start.items()}
        group = {"rank": RANK, "update_proj_gap": self.every, "scale": ALPHA / RANK, "proj_type": "std"}
        theirs = AdamW(
            [{"params": list(held.values()), **group}],
            betas=training.optimizer.param_groups[0]["betas"],
            eps=EPSILON,
            no_deprecation_warning=True,
        )
        for _ in range(STEPS):
            training.learn()
            theirs.param_groups[0]["lr"] = training.optimizer.param_groups[0]["lr"]
            for name, weight in held.items():
                weight.grad = training.seen[name].reshape(weight.shape).clone()
            theirs.step()
        worst = max(difference(training._moved(n)[0], weight.detach()) for n, weight in held.items())
        moved = min(float((training._moved(n)[0] - first).abs().max()) for n, first in start.items())
        assert moved > 0, "nothing was learned"
        states = training.optimizer.state.values()
        counted = sum(state[key].numel() for state in states for key in ("exp_avg", "exp_avg_sq"))
        law = sum(2 * RANK * max(shape.rows, shape.inputs) for shape in training.adapted.values())
        return Measured(worst, counted, law)


class _Recorded(GaLore):
    """Keeps the gradients of the last step."""

    seen: dict[str, Tensor]

    def _projected(self, name: str, values: Tensor) -> Tensor:
        self.__dict__.setdefault("seen", {})[name] = values
        return super()._projected(name, values)


@checks.add
class BottleneckCheck(SystemCheck):
    """The merged network against the adapter as it is drawn: a second path beside the channel mixer."""

    name, reference, tolerance = "bottleneck adapters", "mixer(x) + D f(U x) (arXiv:2110.04366)", 1e-5

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        model = llama()
        training = Bottleneck(widened(model, RANK), task(), RANK, **COURSE)
        training._bits = dict.fromkeys(training._bits)
        with torch.no_grad():
            for index, weight in enumerate(training.parameters.values()):
                weight.copy_(0.2 * random(*weight.shape, seed=index))
        own = {n.rpartition(".")[2]: w for n, w in training.parameters.items() if n.startswith("layers.0.")}
        x = random(5, 32)
        mixer = model.decoder_layers[0].sublayers["channel_mixer"].mixer
        with torch.no_grad():
            hidden = F.silu(F.linear(x, own["gated"])) * F.linear(x, own["up"])
            theirs = mixer(x[None]).y[0] + F.linear(hidden, own["down"])
            merged = training.merge().decoder_layers[0].sublayers["channel_mixer"].mixer(x[None]).y[0]
        counted = sum(weight.numel() for weight in training.parameters.values())
        law = 2 * 3 * RANK * 32  # two layers, three matrices
        assert law == new_values(model.spec, RANK)
        return Measured(difference(merged, theirs), counted, law)
