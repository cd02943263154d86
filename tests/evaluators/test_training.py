import math
import pickle
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F

from evaluators.scoring.scratch import FromScratch
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.tasks.base import IGNORED, Task
from evaluators.training import checkpoints
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining, layer_figures, rounded_model
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from foundation.errors import EvaluationFailed, IllegalArchitecture
from search_spaces.blocks.base import Block
from search_spaces.blocks.switch import Switch
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.packing import pack, unpack
from tests.evaluators import tiny


@pytest.fixture
def task(tmp_path):
    return tiny.task(tmp_path)


def weights(model):
    return dict(model.named_parameters())


def assert_equal_weights(one, other):
    assert weights(one).keys() == weights(other).keys()
    assert all(torch.equal(weight, weights(other)[name]) for name, weight in weights(one).items())


def test_loss_falls(task):
    heard = []
    evaluator = FromScratch(task, batch=8)
    before = evaluator.score(tiny.decoder(), 0, 0)
    after = evaluator.score(tiny.decoder(), 60, 0, on_step=lambda step, loss: heard.append((step, loss)))
    assert 7.5 < before.value < 9
    assert after.value < before.value - 3
    assert len(after.samples) == 8
    assert [step for step, _ in heard] == list(range(1, 61))
    assert heard[-1][1] == pytest.approx(after.value, abs=0.5)


def test_score_repeats(task):
    evaluator = pickle.loads(pickle.dumps(FromScratch(task, batch=4, threads=1)))
    assert evaluator.score(tiny.decoder(), 5, 3) == evaluator.score(tiny.decoder(), 5, 3)
    assert evaluator.score(tiny.decoder(), 5, 3) != evaluator.score(tiny.decoder(), 5, 4)


def test_threads_are_put_back(task):
    before = torch.get_num_threads()
    FromScratch(task, batch=2, threads=before + 1).score(tiny.decoder(), 1, 0)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("weight", [16, 4])
def test_resuming_changes_nothing(task, tmp_path, weight):
    spec, folder = tiny.decoder(weight=weight, penalty=0.1), tmp_path / "checkpoints"
    straight = NetworkTraining(build(spec, seed=1), task, steps=12, seed=1, batch=4)
    fit(straight, until=12)
    stopped = NetworkTraining(build(spec, seed=1), task, steps=12, seed=1, batch=4)
    fit(stopped, until=5)
    checkpoints.save(stopped, folder)
    resumed = NetworkTraining(build(spec, seed=1), task, steps=12, seed=1, batch=4)
    assert checkpoints.resume(resumed, folder, 12) == 5
    fit(resumed, until=12)
    assert_equal_weights(resumed.model, straight.model)
    for name, tensor in straight.tensors().items():
        assert torch.equal(resumed.tensors()[name], tensor)


def test_scratch_goes_on_from_its_checkpoint(task, tmp_path):
    kept = FromScratch(task, str(tmp_path / "kept"), batch=4)
    plain = FromScratch(task, batch=4)
    spec, steps = tiny.decoder(), []
    assert kept.score(spec, 4, 0) == plain.score(spec, 4, 0)
    assert kept.score(spec, 9, 0, on_step=lambda step, _: steps.append(step)) == plain.score(spec, 9, 0)
    assert steps == [5, 6, 7, 8, 9]
    (left,) = (tmp_path / "kept").iterdir()
    assert left.name.endswith("-9.safetensors")
    assert kept.score(spec, 9, 0, on_step=lambda *_: pytest.fail("nothing is left to learn")).value > 0
    assert kept.score(spec, 4, 0) == plain.score(spec, 4, 0)


def test_checkpoints_of_other_trainings_are_left_alone(task, tmp_path):
    one = NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0, batch=4)
    fit(one, until=2)
    path = checkpoints.save(one, tmp_path)
    for other in (
        NetworkTraining(build(tiny.decoder(weight=8)), task, steps=12, seed=0, batch=4),
        NetworkTraining(build(tiny.decoder()), task, steps=12, seed=1, batch=4),
        NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0, batch=8),
        NetworkTraining(build(tiny.decoder()), tiny.task(tmp_path, length=8), steps=12, seed=0, batch=4),
    ):
        assert checkpoints.resume(other, tmp_path, 9) == 0
        path.rename(checkpoints.path_of(other, tmp_path, 2))
        assert checkpoints.resume(other, tmp_path, 9) == 0
        checkpoints.path_of(other, tmp_path, 2).rename(path)
    same = NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0, batch=4)
    assert checkpoints.resume(same, tmp_path, 9) == 2


def test_damaged_checkpoint_is_no_checkpoint(task, tmp_path):
    training = NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0, batch=4)
    fit(training, until=1)
    path = checkpoints.save(training, tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    fresh = NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0, batch=4)
    assert checkpoints.resume(fresh, tmp_path, 5) == 0
    assert_equal_weights(fresh.model, build(tiny.decoder()))
    assert not fresh.fits({"weight/norm": torch.ones(1)})


@pytest.mark.parametrize("penalty", [math.nan, math.inf])
def test_non_finite_loss_fails_the_candidate(task, penalty):
    with pytest.raises(EvaluationFailed, match=r"training loss is (nan|inf) at step 1"):
        FromScratch(task, batch=2).score(tiny.decoder(penalty=penalty), 3, 0)


def test_loss_that_breaks_later_names_its_step(task):
    training = NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0, batch=2)
    fit(training, until=2)
    training.model.norm.data[0] = math.nan
    with pytest.raises(EvaluationFailed, match="training loss is nan at step 3"):
        fit(training, until=4)


def test_auxiliary_losses_are_learned(task):
    models = [FromScratch(task, batch=2).trained_model(tiny.decoder(penalty=p), 10, 0) for p in (0, 1000)]
    small, large = (weights(model)["layers.0.sequence_mixer.mixer.weight"] for model in models)
    assert not torch.equal(small, large)


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_score_is_that_of_the_packed_model(task, bits):
    spec = tiny.decoder(weight=bits)
    training = NetworkTraining(build(spec, seed=0), task, steps=12, seed=0, batch=4)
    fit(training, until=6)
    packed = build(spec, seed=9)
    with torch.no_grad():
        for name, weight in weights(training.model).items():
            width = weight_bits(packed)[name]
            if width is not None:
                weight = unpack(pack(weight, width), width, weight.shape[-1], weight.dtype)
            weights(packed)[name].copy_(weight)
    evaluator = FromScratch(task, batch=4)
    assert tuple(window_losses(packed, task).tolist()) == evaluator.score(spec, 6, 0).samples
    assert_equal_weights(evaluator.trained_model(spec, 6, 0), packed)


def test_rounding_leaves_the_model_alone(task):
    model = build(tiny.decoder(weight=4))
    before = {name: weight.clone() for name, weight in weights(model).items()}
    rounded = rounded_model(model)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(model).items())
    assert not torch.equal(rounded.embedding, model.embedding)
    assert torch.equal(rounded.norm, model.norm)


def test_state_bits_take_effect_on_scores(task, tmp_path):
    long = tiny.task(tmp_path, length=80)
    full, coarse = tiny.decoder(), tiny.decoder(state=8)
    assert state_segment(full) is None
    assert state_segment(coarse) == 32
    scores = [FromScratch(long, batch=4).score(spec, 5, 0) for spec in (full, coarse)]
    assert scores[0].samples != scores[1].samples
    assert scores[0].value == pytest.approx(scores[1].value, abs=0.05)


def test_vocabulary_must_hold_the_task(task):
    with pytest.raises(IllegalArchitecture, match="vocab is 64, and task language needs 256"):
        FromScratch(task).score(tiny.decoder(vocab=64), 1, 0)


def test_unit_is_the_tasks(task):
    assert FromScratch(task).unit == "bits per byte"
    assert FromScratch.name == "scratch"


def test_the_default_rate_has_no_horizon():
    schedule = InverseSqrt()
    assert [schedule.share(step, 0) for step in (1, 10, 20, 100)] == [0.05, 0.5, 1.0, 1.0]
    assert schedule.share(400, 500) == 0.5


def test_rates_are_the_blocks_own_and_matrices_decay(task):
    training = NetworkTraining(build(tiny.decoder()), task, steps=12, seed=0)
    groups = {(group["peak"], group["weight_decay"]) for group in training.optimizer.param_groups}
    assert groups == {(Block.learning_rate, 0.1), (Block.learning_rate, 0.0)}
    fit(training, until=1)
    tokens = training.batch * task.length
    first = Block.learning_rate / 20 * training.recipe.scale(tokens, None)
    assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([first] * 2)


@dataclass(frozen=True)
class Echo(Task):
    """Only the last target is judged."""

    name: ClassVar[str] = "echo"
    unit: ClassVar[str] = "nats"
    vocab: ClassVar[int] = 256
    digest: ClassVar[str] = "echo"

    @classmethod
    def make(cls, *, data, length, windows):
        raise NotImplementedError

    def train_batch(self, step, seed, batch):
        raise NotImplementedError

    def validation(self):
        tokens = torch.arange(40 * 6).reshape(40, 6) % 256
        targets = torch.full_like(tokens, IGNORED)
        targets[:, -1] = tokens[:, 0]
        return tokens, targets


def test_only_judged_targets_count():
    model = build(tiny.decoder())
    tokens, targets = Echo().validation()
    with torch.no_grad():
        nats = F.cross_entropy(model(tokens)[:, -1], targets[:, -1], reduction="none")
    torch.testing.assert_close(window_losses(model, Echo()), nats.double())


def reporting() -> Decoder:
    """A layer of experts with room for half of the tokens, one behind a router, and one with an exit."""
    fade = tiny.Fade()
    layers = (
        Layer(sequence_mixer=fade, channel_mixer=Switch(num_experts=2, expansion=1, capacity_factor=0.5)),
        Layer(sequence_mixer=fade, exit=EarlyExit(threshold=0.97)),
        Layer(sequence_mixer=fade, routing=MixtureOfDepths(capacity=0.5)),
    )
    return Decoder(vocab=256, d_model=16, layers=layers)


def test_dropped_tokens_load_and_shares_are_reported(task):
    found = FromScratch(task, batch=4).score(reporting(), 15, 0).figures
    assert set(found) == {
        "layers.0.channel_mixer.dropped",
        "layers.0.channel_mixer.load",
        "layers.1.exit.share",
        "layers.2.routing.share",
    }
    assert 0.4 < found["layers.0.channel_mixer.dropped"] < 1
    assert 1 <= found["layers.0.channel_mixer.load"] <= 2
    assert 0 < found["layers.1.exit.share"] <= 1


def test_figures_are_those_that_the_next_step_sees(task):
    training = NetworkTraining(build(reporting(), seed=0), task, steps=12, seed=0, batch=4)
    fit(training, until=3)
    seen: dict[str, torch.Tensor] = {}
    tokens, _ = task.train_batch(3, 0, 4)
    training.model(tokens, metrics=seen)
    found = layer_figures(training)
    assert {name: found[name] for name in seen} == {name: float(value) for name, value in seen.items()}
    assert training.step == 3
    assert all(parameter.grad is not None for parameter in training.parameters.values())


def test_figures_do_not_depend_on_where_a_training_was_stopped(task, tmp_path):
    kept, plain = (FromScratch(task, folder, batch=4) for folder in (str(tmp_path / "kept"), None))
    kept.score(reporting(), 4, 0)
    assert kept.score(reporting(), 9, 0) == plain.score(reporting(), 9, 0)
    assert kept.score(reporting(), 9, 0).figures == plain.score(reporting(), 9, 0).figures


def test_plain_networks_have_no_figures(task):
    assert FromScratch(task, batch=2).score(tiny.decoder(), 2, 0).figures == {}
