import json
import math
import time
from dataclasses import replace
from random import Random

import pytest

from foundation.errors import ProfileError
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.correction import BASE_ERROR, NORMAL_REACH, Accuracy, Correction
from hw_profiles.latency.parts import at_position, block_part
from hw_profiles.latency.table import BETWEEN_SESSIONS, LatencyTable
from hw_profiles.timing.timings import Latency
from hw_profiles.timing.versions import VERSION, outdated
from search_spaces.blocks.attention import Attention
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, registered, round_table, small_space


@pytest.fixture
def names():
    with registered():
        yield


def ms(table, part):
    return table.entries[part]["prefill_ms"].median_ms


def test_a_prediction_is_the_corrected_sum():
    table = round_table()
    layers = (
        Layer(sequence_mixer=Sum(copies=3), channel_mixer=Scale(), bits=Bits(weight=4, state=8)),
        Layer(sequence_mixer=Sum()),
    )
    spec = Decoder(vocab=16, d_model=8, layers=layers)
    halves = (block_part(Sum(copies=3), 8, 8), block_part(Scale(), 8, 16), block_part(Sum(), 8, 16))
    around = next(part for part in table.entries if part.block is None)
    total = sum(ms(table, part) for part in (around, *halves))
    assert table.parts_ms(spec)["prefill_ms"] == total
    for _ in range(2):  # afresh, and from memory
        predicted = table.predict(spec)
        whole = 2 * total + 10 + 100 * 2
        session = BETWEEN_SESSIONS["cpu"]
        relative = math.hypot(3.0 / NORMAL_REACH * BASE_ERROR, session)
        assert predicted["prefill_ms"] == pytest.approx((whole, relative * whole))
        # no held-out network: the parts' own error stands for it
        assert predicted["decode_ms"] == pytest.approx(
            (total / 10, math.hypot(BASE_ERROR, session) * total / 10)
        )


def test_errors_of_the_parts_add_in_quadrature():
    table, spec = round_table(), Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()),))
    shaky = {reading: Latency((1.0, 1.6)) for reading in ("prefill_ms", "decode_ms")}  # 0.3 ms each
    table = replace(table, entries=dict.fromkeys(table.entries, shaky))
    own = 2**0.5 * 0.3 / 2.6
    assert table.predict(spec)["decode_ms"][1] == pytest.approx(
        2.6 * math.hypot(BASE_ERROR, own, BETWEEN_SESSIONS["cpu"])
    )


def test_the_interval_is_where_the_standard_error_says():
    table, spec = round_table(), Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()),))
    for reading, (low, high) in table.interval(spec).items():
        ms, error = table.predict(spec)[reading]
        assert (low + high) / 2 == pytest.approx(ms)
        assert high - low == pytest.approx(2 * NORMAL_REACH * error)


def test_families_are_multiplied_by_their_factors():
    table, spec = round_table(), Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()),))
    before = table.predict(spec)["prefill_ms"][0]
    line = Correction(2.0, 10.0, 100.0, {"Sum": 1.5})
    after = replace(table, corrections={**table.corrections, "prefill_ms": line}).predict(spec)
    own = table.families_ms(spec, "prefill_ms")[0]["Sum"]
    assert after["prefill_ms"][0] - before == pytest.approx(2.0 * 0.5 * own)


@pytest.mark.parametrize(
    ("prefill", "decode", "trusted"),
    [(0.1, 0.02, True), (0.11, 0.02, False), (0.02, 0.11, False), (0.02, None, False)],
)
def test_a_table_that_errs_is_not_trusted(prefill, decode, trusted):
    accuracies = {"prefill_ms": Accuracy(9, mape=prefill), "decode_ms": Accuracy(9, mape=decode)}
    table = replace(round_table(), accuracies=accuracies)
    assert table.trusted is trusted
    why = "it has no held-out networks" if decode is None else "it errs by more than 10 %"
    assert (f"not trusted: {why}" in str(table)) is not trusted


def test_what_was_not_measured_is_interpolated_all_at_once_or_alone():
    table = growing_table()
    specs = [
        Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=attention(heads)),) * depth)
        for heads in (2, 3, 4)
        for depth in (1, 2)
    ]
    assert table.predict_many(specs) == [growing_table().predict(spec) for spec in specs]
    ms = [table.families_ms(spec, "decode_ms")[0]["Attention"] for spec in specs]
    assert ms[::2] == sorted(ms[::2])
    with pytest.raises(ProfileError, match=r"no entry for Attention\(num_heads=64"):
        table.predict(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=attention(64)),)))


def attention(heads):
    return Attention(num_heads=heads, num_kv_heads=1, head_dim=8)


def growing_table():
    """Attention of 2 and 4 heads; decoding takes a tenth of a millisecond a token looked back at."""
    parts = [block_part(attention(heads), 8, 16) for heads in (2, 4)]
    entries = {
        part: {"prefill_ms": Latency((heads,) * 4), "decode_ms": Latency((heads / 10,) * 4)}
        for heads, part in zip((2, 4), parts, strict=True)
    }
    for position in (2, 11):
        entries[at_position(parts[0], position)] = {"decode_ms": Latency((0.02 * position,) * 4)}
    plain = round_table()
    outer = {part: found for part, found in plain.entries.items() if part.block is None}
    return replace(plain, entries={**outer, **entries}, networks=(), corrections={}, accuracies={})


def test_decoding_is_predicted_at_a_position():
    table = growing_table()
    spec = Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=attention(2)),))
    outer = table.families_ms(spec, "decode_ms")[0][""]
    early, late = (table.predict(spec, position)["decode_ms"][0] - outer for position in (2, 11))
    assert (early, late) == pytest.approx((0.04, 0.22))
    assert early < table.predict(spec, 6)["decode_ms"][0] - outer < late
    assert table.predict(spec, 6)["prefill_ms"] == table.predict(spec)["prefill_ms"]


def test_a_table_with_positions_survives_its_file(tmp_path):
    growing_table().save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json").to_plain() == growing_table().to_plain()


def test_ten_thousand_networks_are_predicted_in_a_moment():
    space, table = small_space(depths=(4, 6, 8)), round_table()
    dice = Random(0)
    specs = [space.propose_with_spec(lambda path, labels: dice.choice(labels))[1] for _ in range(500)] * 20
    began = time.thread_time()
    table.predict_many(specs)
    assert time.thread_time() - began < 2.0  # about half a second on an idle core


def test_many_networks_that_all_differ_are_predicted_as_one_by_one():
    space, dice = small_space(depths=(4, 6, 8)), Random(1)
    specs = [space.propose_with_spec(lambda path, labels: dice.choice(labels))[1] for _ in range(50)]
    table = round_table()
    assert table.predict_many(specs) == [round_table().predict(spec) for spec in specs]
    assert table.predict_many(specs) == table.predict_many(specs)


def test_what_a_router_lets_pass_is_less_certain():
    table, layer = round_table(), Layer(sequence_mixer=Sum())
    plain, *others = (
        Decoder(vocab=16, d_model=8, layers=(each,) * 3)
        for each in (
            layer,
            replace(layer, routing=MixtureOfDepths(capacity=0.5)),
            replace(layer, exit=EarlyExit()),
        )
    )
    for reading, (ms, error) in table.predict(plain).items():
        for other in others:
            found = table.predict(other)[reading]
            assert found[1] / found[0] > 1.2 * error / ms
    assert table.predict_many(others) == [round_table().predict(other) for other in others]


def test_a_table_says_which_bits_are_emulated_in_time():
    assert "weights of 1.58, 2, 3, 4, 6, 8 bits and float8 are emulated in time" in str(round_table())
    some = replace(round_table(), real_bits=frozenset({(8, 16, "int"), (4, 16, "int")}))
    assert "weights of 1.58, 2, 3, 6 bits and float8 are emulated in time" in str(some)


def test_bits_of_weights_do_not_change_the_prediction():
    table = round_table()
    specs = [
        Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(), bits=Bits(weight=bits)),))
        for bits in (16, 4)
    ]
    assert table.predict(specs[0]) == table.predict(specs[1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(copies=8)),)), r"Sum\(copies=8\) at"),
        (Decoder(vocab=17, d_model=8, layers=()), "embedding and logits of 17 tokens"),
    ],
)
def test_a_missing_entry_is_named(spec, message):
    with pytest.raises(ProfileError, match=f"{message}.*; profile the space that contains it"):
        round_table().predict(spec)


def test_covers():
    table = round_table()
    assert table.covers(small_space())
    larger = Space(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(copies=one_of(2, 7))),)))
    # two copies lie between one and three; seven are more than a doubling beyond
    assert [str(part) for part in table.missing(larger)] == ["Sum(copies=7) at d_model 8 with a 16-bit state"]


@pytest.mark.usefixtures("names")
def test_a_table_survives_its_file(tmp_path):
    table = round_table()
    table.save(tmp_path / "deep" / "table.json")
    loaded = LatencyTable.load(tmp_path / "deep" / "table.json", SCENARIO)
    assert loaded.to_plain() == table.to_plain()
    assert loaded.entries == table.entries
    assert list(loaded.scatter("decode_ms")) == list(table.scatter("decode_ms"))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["table.json"]


@pytest.mark.usefixtures("names")
def test_the_file_is_for_readers(tmp_path):
    round_table().save(tmp_path / "table.json")
    text = (tmp_path / "table.json").read_text()
    assert '"samples_ms": [ 5.0, 6.0 ]' in text
    plain = json.loads(text)
    assert plain["weight_bits"] == {"real": [], "emulated": [1.58, 2, 3, 4, 6, 8]}
    assert plain["trusted"] is False
    low, high = plain["networks"][0]["predicted"]["prefill_ms"]["interval_ms"]
    assert low < plain["networks"][0]["predicted"]["prefill_ms"]["ms"] < high
    assert plain["networks"][0]["predicted"]["prefill_ms"]["ms"] > 100
    assert plain["entries"][0]["prefill_ms"]["median_ms"] == 1.0


@pytest.mark.usefixtures("names")
def test_another_machine_is_refused(tmp_path):
    table = round_table()
    other = {**fingerprint(SCENARIO), "cpu_model": "Abacus 3000"}
    replace(table, fingerprint=other).save(tmp_path / "table.json")
    with pytest.raises(ProfileError, match="another machine: cpu_model was 'Abacus 3000', is "):
        LatencyTable.load(tmp_path / "table.json")
    loaded = LatencyTable.load(tmp_path / "table.json", allow_other_machine=True)
    assert loaded.fingerprint == other


@pytest.mark.usefixtures("names")
def test_another_scenario_is_refused(tmp_path):
    round_table().save(tmp_path / "table.json")
    with pytest.raises(ProfileError, match="another scenario: prompt was 8, is 256; new_tokens was 4"):
        LatencyTable.load(tmp_path / "table.json", Scenario(), allow_other_machine=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a latency table"),
        ('{"format": "other", "version": 2}', "expected nas latency table of version 2"),
        ('{"format": "nas latency table", "version": [2]}', "expected nas latency table of version 2"),
        ('{"format": "nas latency table", "version": 2}', "lacks 'scenario'"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ProfileError, match=message):
        LatencyTable.load(tmp_path / "table.json")


@pytest.mark.usefixtures("names")
def test_a_table_whose_steps_were_timed_otherwise_is_refused_with_the_command_that_makes_it_again(tmp_path):
    plain = {**round_table().to_plain(), "version": 1}  # as before decision 82
    (tmp_path / "table.json").write_text(json.dumps(plain))
    with pytest.raises(ProfileError, match=r"table.json: a table of before, whose decode steps") as refused:
        LatencyTable.load(tmp_path / "table.json")
    assert f"`nas profile SPACE --scenario {SCENARIO.written()}`" in str(refused.value)
    plain["space"]["name"] = "laptop"
    with pytest.raises(ProfileError, match="`nas profile laptop --scenario cpu,"):
        LatencyTable.from_plain(plain)


@pytest.mark.usefixtures("names")
def test_gpus_are_timed_as_before():
    on_gpu = replace(SCENARIO, device="cuda:0")
    assert not outdated(1, on_gpu)
    assert outdated(1, SCENARIO)
    assert not outdated(VERSION, SCENARIO)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"table.json: no such file"):
        LatencyTable.load(tmp_path / "table.json")


def test_a_block_that_is_not_known_here_is_named():
    with pytest.raises(ProfileError, match="unknown block or part 'S"):
        LatencyTable.from_plain(round_table().to_plain())


def test_a_table_introduces_itself():
    text = str(round_table())
    assert "latency table of small" in text
    assert "prefill_ms: 1 held-out networks, mean error 10.0 %" in text
    assert "decode_ms: no held-out network was measured" in text


@pytest.mark.usefixtures("names")
def test_bits_with_kernels_are_kept():
    real = [(4, 16, "int"), (8, 8, "float"), (8, 16, "int")]
    table = replace(round_table(), real_bits=frozenset(real))
    plain = table.to_plain()
    assert plain["weight_bits"] == {"real": real, "emulated": [1.58, 2, 3, 6]}
    assert LatencyTable.from_plain(json.loads(json.dumps(plain))).real_bits == table.real_bits
    plain["weight_bits"]["real"] = [[4, 16], [8, 16]]  # before there was float8
    assert LatencyTable.from_plain(json.loads(json.dumps(plain))).real_bits == {real[0], real[2]}


@pytest.mark.usefixtures("names")
def test_tables_of_before_are_read():
    plain = json.loads(json.dumps(round_table().to_plain()))
    del plain["trusted"]
    plain["weight_bits"] = "emulated"
    for key in ("reference_wall_ms", "overheads"):
        del plain["provenance"][key]
    for reading in plain["readings"].values():
        del reading["correction"]["factors"], reading["accuracy"]["reach"]
    for key in ("weights", "name"):
        plain["scenario"].pop(key, None)
    table = LatencyTable.from_plain(plain)
    assert table.entries == round_table().entries
    assert table.scenario == SCENARIO


def test_a_name_is_no_other_scenario(tmp_path):
    with registered():
        round_table().save(tmp_path / "table.json")
        named = replace(SCENARIO, name="chat")
        assert LatencyTable.load(tmp_path / "table.json", named).scenario == named
