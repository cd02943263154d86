"""Export targets: folders that are whole or absent, and refusals before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foundation.errors import FileError, SettingError, UnknownName
from foundation.settings import setting
from nas import cli
from nas.exports.base import MANIFEST, Network, Target, target_of, targets
from nas.exports.programs import differences
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Mixer
from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.s4 import S4
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import load_model
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.programs import exported, static_programs
from search_spaces.ops.features import taylor_features
from search_spaces.quantization.bits import Bits
from tests.faults.models import SPEC


@dataclass(frozen=True, kw_only=True)
class Words(Target):
    """A format of this test."""

    name = "words"
    count: int = setting(2, help="Words to write.", least=1, most=9)

    def unsupported(self, spec: Decoder) -> str:
        return "networks of one token have no words" if spec.vocab == 1 else ""

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        (folder / "words").write_text("word " * self.count)
        if self.count == 9:
            raise OSError(28, "No space left on device")
        return {"differences": {"prefill": 0.0}}


@pytest.fixture
def network() -> Network:
    return Network(build(SPEC, seed=1), {"study": "a test"})


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> type[Target]:
    dict(targets)
    monkeypatch.setitem(targets._things, "words", Words)
    return Words


@pytest.mark.usefixtures("words")
def test_a_target_is_named_with_its_settings() -> None:
    assert target_of("words") == Words()
    assert target_of("words,count=3") == Words(count=3)
    with pytest.raises(UnknownName, match="did you mean 'words'"):
        target_of("wordz")
    with pytest.raises(UnknownName, match="did you mean 'count'"):
        target_of("words,coumt=3")
    with pytest.raises(SettingError, match="count must be at most 9"):
        target_of("words,count=10")
    with pytest.raises(SettingError, match="name of a format"):
        target_of(3)  # type: ignore[arg-type]


def test_a_folder_is_replaced_where_it_holds_an_export_and_only_when_told(
    network: Network, tmp_path: Path
) -> None:
    told = Words().export(network, tmp_path / "out")
    assert told == {"study": "a test", "differences": {"prefill": 0.0}}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "words"]
    with pytest.raises(SettingError, match="holds an export"):
        Words(count=3).export(network, tmp_path / "out")
    Words(count=3).export(network, tmp_path / "out", force=True)
    assert (tmp_path / "out/words").read_text().count("word") == 3
    (tmp_path / "mine").mkdir()
    Words().export(network, tmp_path / "mine")  # an empty folder is as good as none
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes").write_text("mine")
    with pytest.raises(SettingError, match="holds no export"):
        Words().export(network, tmp_path / "other", force=True)
    with pytest.raises(SettingError, match="is a path"):
        Words().export(network, "")


def test_nothing_is_left_of_an_export_that_fails(network: Network, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No space left"):
        Words(count=9).export(network, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be a folder for an export"):
        Words().export(network, tmp_path / "file/out")


def test_a_network_that_a_format_cannot_hold_and_a_missing_library_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no words"):
        Words().require(Decoder(vocab=1, d_model=8, layers=()))

    class Missing(Words):
        extra, modules = "words", ("no_such_library",)

    with pytest.raises(SettingError, match=r"needs no_such_library: pip install 'nas\[words\]'"):
        Missing().check(tmp_path / "out")


def test_programs_of_torch_run_without_us_for_other_batches(tmp_path: Path) -> None:
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
    layer = Layer(sequence_mixer=attention, bits=Bits(weight=4, state=8), exit=EarlyExit(threshold=0.9))
    model = build(Decoder(vocab=16, d_model=16, layers=(layer, replace(layer, exit=None))))
    told = target_of("torch,prompt=6,capacity=40").export(Network(model), tmp_path / "out")
    assert all(difference < 1e-5 for difference in told["differences"].values())
    assert len(told["differences"]) == 2
    prefill, step = (torch.export.load(tmp_path / f"out/{name}.pt2").module() for name in ("prefill", "step"))
    tokens = torch.randint(16, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, *state = prefill(tokens[:, :8])
        expected, own = model.prefill(tokens[:, :8], capacity=40)
        torch.testing.assert_close(logits, expected)
        logits, *_ = step(tokens[:, 8], torch.tensor(8), *state)
        torch.testing.assert_close(logits, model.step(tokens[:, 8], own)[0])


def test_onnx_files_run_in_onnx_runtime_also_with_integer_weights(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=16)
    model = build(Decoder(vocab=16, d_model=32, layers=(Layer(sequence_mixer=attention),)))
    told = target_of("onnx,prompt=6,capacity=40,weights=8").export(Network(model), tmp_path / "out")
    assert told["products_of_few_bits"] >= 3
    assert all(0 < difference < 0.1 for difference in told["differences"].values())
    session = runtime.InferenceSession(tmp_path / "out/step.onnx", providers=["CPUExecutionProvider"])
    named = [each.name for each in session.get_inputs()]
    assert named == ["token", "position", "layers.0.sequence_mixer.k", "layers.0.sequence_mixer.v"]
    assert [each.name for each in session.get_outputs()][1:] == [f"new.{name}" for name in named[2:]]


def test_windows_of_shared_heads_and_states_of_few_bits_run_in_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    attention = Attention(num_heads=4, num_kv_heads=2, head_dim=16, window=4)
    layer = Layer(sequence_mixer=attention, bits=Bits(state=4))
    model = build(Decoder(vocab=16, d_model=32, layers=(layer,)))
    told = target_of("onnx,prompt=10,capacity=44").export(Network(model), tmp_path / "out")
    assert all(difference < 1e-4 for difference in told["differences"].values())


@pytest.mark.slow
def test_executorch_runs_prefill_and_step_of_one_file(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    layers = tuple(
        Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(), bits=Bits(state=state))
        for mixer, state in (
            (Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=5), 16),
            (Attention(num_heads=2, num_kv_heads=2, head_dim=8), 4),
            (ShortConv(), 16),
        )
    )
    model = build(Decoder(vocab=16, d_model=16, layers=layers))
    told = target_of("executorch,prompt=8,capacity=48").export(Network(model), tmp_path / "out")
    assert all(difference < 1e-4 for difference in told["differences"].values())
    assert len(told["differences"]) == 2


def test_what_is_no_program_and_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU())
    routed = (layer, replace(layer, routing=MixtureOfDepths()))
    with pytest.raises(SettingError, match=r"layers\.1 lets only some tokens pass"):
        target_of("torch").require(Decoder(vocab=16, d_model=8, layers=routed))
    with pytest.raises(SettingError, match="capacity must be at least 132"):
        target_of("torch,prompt=100,capacity=110")


def test_our_own_format_is_the_default_and_is_read_again(network: Network, tmp_path: Path) -> None:
    target_of("nas").export(network, tmp_path / "out")
    assert load_model(tmp_path / "out").spec == SPEC


@pytest.mark.usefixtures("words")
def test_a_folder_and_a_published_architecture_are_exported_by_the_command(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent, out = tmp_path / "parent", tmp_path / "out"
    target_of("nas").export(network, parent)
    assert cli.run(["export", str(parent), "--to", "words", "-o", str(out)]) == 0
    assert (out / "words").is_file()
    assert cli.run(["export", str(parent), "-o", str(tmp_path / "copy")]) == 0
    copied = load_model(tmp_path / "copy").state_dict()
    assert all(torch.equal(copied[name], values) for name, values in load_model(parent).state_dict().items())
    assert cli.run(["export", "zoo:lfm2", "--to", "words", "-o", str(tmp_path / "zoo")]) == 0
    assert "lfm2, initial ones of seed 0" in capsys.readouterr().out
    for words, message in (
        ((str(parent), "-o", str(parent), "--force"), "is the network itself"),
        ((str(parent), "-o", f"{parent}/../parent", "--force"), "is the network itself"),
        ((str(tmp_path / "no"), "-o", str(tmp_path / "a")), "there is no folder"),
        (("zoo:lfm2", "0", "-o", str(tmp_path / "b")), "there is no '0' of it"),
        (("first", "-o", str(tmp_path / "c")), "a study and one of its trials"),
    ):
        assert cli.run(["export", *words]) == cli.REFUSED
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert load_model(parent).spec == network.model.spec


def test_a_step_of_experts_takes_any_batch_and_no_operator_is_pytorchs_alone() -> None:
    """The number of tokens was counted, so a program took that batch only that it was traced with."""
    block = DeepSeekMoE(num_experts=4, top_k=2)
    mixer = block.build(8).eval()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter)
    batch = {0: torch.export.Dim.AUTO}
    program = exported(OneStep(mixer), (torch.randn(2, 8),), (batch,)).module()
    x = torch.randn(5, 8)
    torch.testing.assert_close(program(x), OneStep(mixer)(x))
    graph = exported(Features(), (x,)).graph
    assert not any("triu_indices" in str(node.target) for node in graph.nodes)
    torch.testing.assert_close(exported(Features(), (x,)).module()(x), taylor_features(x))


class OneStep(torch.nn.Module):
    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixer.step(x, {}, 0)[0]


class Features(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return taylor_features(x)


def test_programs_that_compute_something_else_are_refused() -> None:
    model = build(SPEC, seed=0)

    def prefill(tokens: Tensor) -> list[Tensor]:
        return [model.prefill(tokens)[0]]

    def step(token: Tensor, position: Tensor) -> list[Tensor]:
        return [torch.ones(1, model.spec.vocab)]

    with pytest.raises(SettingError, match=r"something else: its logits differ by .* steps of decoding"):
        differences(model, prefill, step, prompt=5, capacity=64)
    assert differences(model, prefill, step, prompt=5, capacity=64, rounded=True)["prefill"] == 0


def test_no_program_multiplies_nothing() -> None:
    """ExecuTorch leaves a product over no numbers as the memory was."""
    layer = Layer(sequence_mixer=S4(state_dim=3))
    model = build(Decoder(d_model=8, layers=(layer,)), seed=0)
    nodes = static_programs(model, prompt=16, capacity=20).prefill.graph.nodes  # blocks of 4 tokens
    products = [node for node in nodes if "matmul" in str(node.target)]
    assert len(products) > 3
    for node in products:
        assert min(each.meta["val"].numel() for each in node.all_input_nodes) > 0, node
