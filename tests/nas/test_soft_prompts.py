"""`nas adapt --method prompt` and `prefix`: estimates, records, folders that are networks, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evaluators.compression.adapters import FILE, read_adapter
from evaluators.training.trainable import weights_digest
from foundation.errors import SettingError
from nas import cli
from nas.modification import ModificationSettings, estimates, modify
from nas.modifiers.adapt import Adapt
from nas.parents import space_around
from nas.study.model_code import load
from nas.training.start import Start, export_start, start_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.checkpoints.writing import family_with
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding
from search_spaces.network.model import build
from search_spaces.network.model_files import save_model
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.programs import export_programs
from search_spaces.network.soft_prompt import SoftPrompt
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
MAMBA = Mamba2(num_heads=2, head_dim=8, state_dim=4)
LAYERS = tuple(Layer(sequence_mixer=mixer, channel_mixer=SwiGLU()) for mixer in (ATTENTION, MAMBA))
P = 4
LAW = {"prompt": P * 16, "prefix": 2 * P * 8 + 2 * 4 * 8 + 3 * 16 + 3 * 8}
"""Vectors; keys and values, the memory, and the last inputs of both convolutions."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ModificationSettings:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"{i} bottles of beer on the wall, take {i % 7} down. " for i in range(3000)))
    return ModificationSettings(data=str(path), window=32, validation_windows=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = Decoder(vocab=256, d_model=16, layers=LAYERS)
    return save_model(build(spec, seed=1), tmp_path_factory.mktemp("model") / "winner")


@pytest.fixture(scope="module", params=list(LAW))
def adapted(
    request: pytest.FixtureRequest,
    folder: Path,
    settings: ModificationSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("adapted") / request.param
    adapt = Adapt(method=request.param, tokens=P, steps=3, batch=2)
    start = start_of(str(folder))
    ((_, estimate),) = estimates(start, [adapt])
    (done,) = modify(start, [adapt], out, settings)
    law = LAW[request.param]
    assert estimate.trainable == law == done.notes["trained parameters"]
    assert estimate.params == (done.before["params"], done.after["params"])
    assert estimate.weight_bytes == (done.before["weight_bytes"], done.after["weight_bytes"])
    assert done.after["params"] - done.before["params"] == law
    assert done.after["weight_bytes"] - done.before["weight_bytes"] == 4 * law
    assert done.notes["optimizer's values"] == 2 * law
    assert done.difference[0] != 0
    return request.param, out


def test_the_folder_is_a_network_that_begins_with_its_prompt(adapted: tuple[str, Path]) -> None:
    method, out = adapted
    model = load(out)
    assert model.virtual_tokens == P
    tokens = torch.tensor([list(b"bottles of beer")])
    with torch.no_grad():
        whole = model(tokens)
        logits, state = model.prefill(tokens[:, :-1])
        last, _ = model.step(tokens[:, -1], state)
    torch.testing.assert_close(logits, whole[:, :-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, whole[:, -1], rtol=1e-4, atol=1e-4)
    size = sum(tensor.nbytes for tensor in load_file(out / "model.safetensors").values())
    assert size == model.spec.cost(Scenario()).weight_bytes, method


def test_what_was_learned_lies_beside_it(adapted: tuple[str, Path], folder: Path) -> None:
    _, out = adapted
    base, model = load(folder), load(out)
    kept = load_file(out / FILE)
    assert kept
    for name, weight in model.named_parameters():
        if name.startswith("soft_prompt."):
            assert torch.equal(kept[name], weight)
    with pytest.raises(SettingError, match="it is a soft prompt, which is served with its network"):
        read_adapter(out, base, weights_digest(dict(base.named_parameters())))


def test_texts_are_continued_from_the_command_line(
    adapted: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = adapted
    words = ["generate", str(out), "--prompt", "9 bot", "-n", "12"]
    assert cli.run(words) == 0
    text = capsys.readouterr().out
    assert cli.run([*words, "--draft", "ngram"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.slow
def test_its_programs_begin_with_the_prompt(adapted: tuple[str, Path]) -> None:
    _, out = adapted
    model = load(out)
    programs = export_programs(model, prompt=8, capacity=24)
    tokens = torch.tensor([list(b"9 bottles of")])
    with torch.no_grad():
        logits, *state = programs.prefill.module()(tokens[:, :8])
        torch.testing.assert_close(logits, model(tokens[:, :8]), rtol=1e-4, atol=1e-4)
        last, *state = programs.step.module()(tokens[:, 8], torch.tensor(8), *state)
        torch.testing.assert_close(last, model(tokens[:, :9])[:, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_it_by_a_class_of_its_own(adapted: tuple[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    _, about = export_start(str(adapted[1]), None, tmp_path / "hf", to="hf")
    assert about["family"] == "nas"
    assert max(about["differences"].values()) < 1e-4


def test_families_of_transformers_have_no_prompts() -> None:
    spec = Decoder(vocab=256, d_model=16, layers=LAYERS[:1], embedding=Embedding(scale=1.0))
    family_with(spec, "llama")
    with pytest.raises(SettingError, match="soft_prompt"):
        family_with(replace(spec, soft_prompt=SoftPrompt()), "llama")


def test_no_modifier_changes_what_a_prompt_was_learned_for(adapted: tuple[str, Path]) -> None:
    _, out = adapted
    start = start_of(str(out))
    for text in ("quantize", "shrink,channels=0.5", "adapt", "adapt,method=prompt"):
        with pytest.raises(SettingError, match="has a soft prompt, which was learned for it as it is"):
            estimates(start, [text])
    with pytest.raises(SettingError, match="its soft prompt was learned for all layers together"):
        space_around(out)


def test_what_cannot_begin_so_is_refused_before_any_work() -> None:
    layers = (*LAYERS, Layer(sequence_mixer=Hyena()))
    start = Start(build(Decoder(vocab=256, d_model=16, layers=layers)), {})
    with pytest.raises(SettingError, match=r"adapt: layers\.2 has Hyena, whose state holds what follows"):
        estimates(start, ["adapt,method=prefix"])
    estimates(start, ["adapt,method=prompt"])
    with pytest.raises(SettingError, match="tokens must be at least 1, got 0"):
        estimates(start, ["adapt,method=prompt,tokens=0"])
    read_twice = Layer(
        sequence_mixer=ATTENTION,
        channel_mixer=SwiGLU(),
        bits=Bits(weight=8),
        precision=AdaptivePrecision(),
    )
    start = Start(build(Decoder(vocab=256, d_model=16, layers=(read_twice,))), {})
    with pytest.raises(SettingError, match=r"layers\.0 reads its weights at two precisions"):
        estimates(start, ["adapt,base=nf4"])
    with pytest.raises(SettingError, match="decompose is for factors, and method is prompt"):
        Adapt(method="prompt", decompose=True)


@pytest.mark.parametrize(
    "words",
    [
        ("adapt", "nowhere", "--method", "prompt", "--rank", "8", "--targets", "input"),
        ("run", "adapt,method=prompt,rank=8,targets=input", "nowhere"),
        ("run", "quantize", "nowhere", "--then", "adapt,method=prompt,rank=8,targets=input"),
    ],
)
def test_settings_that_a_method_does_not_read_are_refused(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, "-o", "out"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    told = "does not read --rank and --targets, but --tokens, --steps, --batch and --recipe"
    assert f"adapt: --method prompt {told}" in said


def test_the_number_of_virtual_tokens_is_an_open_value() -> None:
    space = Space((Adapt(method=one_of("prompt", "prefix"), tokens=one_of(4, 8)),), name="adaptations")
    assert space.size() == 4
