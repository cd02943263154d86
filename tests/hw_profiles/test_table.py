import json
import math
from dataclasses import replace

import pytest

from hw_profiles.fingerprint import fingerprint
from hw_profiles.measure import Latency
from hw_profiles.parts import half
from hw_profiles.table import BETWEEN_SESSIONS, LatencyTable
from search_spaces.bits import Bits
from search_spaces.choices import one_of
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import ProfileError
from search_spaces.scenario import Scenario
from search_spaces.space import Space
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
    halves = (half(Sum(copies=3), 8, 8), half(Scale(), 8, 16), half(Sum(), 8, 16))
    around = next(part for part in table.entries if part.block is None)
    total = sum(ms(table, part) for part in (around, *halves))
    assert table.parts_ms(spec)["prefill_ms"] == total
    for _ in range(2):  # afresh, and from memory
        predicted = table.predict(spec)
        whole = 2 * total + 10 + 100 * 2
        assert predicted["prefill_ms"] == pytest.approx((whole, math.hypot(0.1, BETWEEN_SESSIONS) * whole))
        assert predicted["decode_ms"] == pytest.approx((total / 10, BETWEEN_SESSIONS * total / 10))


def test_errors_of_the_parts_add_in_quadrature():
    table, spec = round_table(), Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum()),))
    shaky = {reading: Latency((1.0, 1.6)) for reading in ("prefill_ms", "decode_ms")}  # 0.3 ms each
    table = replace(table, entries=dict.fromkeys(table.entries, shaky))
    assert table.predict(spec)["decode_ms"][1] == pytest.approx(
        (2 * 0.3**2 + (BETWEEN_SESSIONS * 2.6) ** 2) ** 0.5
    )


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
        (Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(copies=2)),)), r"Sum\(copies=2\) at"),
        (Decoder(vocab=17, d_model=8, layers=()), "embedding and logits of 17 tokens"),
    ],
)
def test_a_missing_entry_is_named(spec, message):
    with pytest.raises(ProfileError, match=f"{message}.*; profile the space that contains it"):
        round_table().predict(spec)


def test_covers():
    table = round_table()
    assert table.covers(small_space())
    larger = Space(Decoder(vocab=16, d_model=8, layers=(Layer(sequence_mixer=Sum(copies=one_of(1, 2))),)))
    assert [str(part) for part in table.missing(larger)] == ["Sum(copies=2) at d_model 8 with a 16-bit state"]


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
    assert plain["weight_bits"] == "emulated"
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
        ('{"format": "other", "version": 1}', "expected nas latency table of version 1"),
        ('{"format": "nas latency table", "version": 1}', "not a latency table: KeyError"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(ProfileError, match=message):
        LatencyTable.load(tmp_path / "table.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"table.json: cannot be read: No such file"):
        LatencyTable.load(tmp_path / "table.json")


def test_a_block_that_is_not_known_here_is_named():
    with pytest.raises(ProfileError, match="unknown block or part 'S"):
        LatencyTable.from_plain(round_table().to_plain())


def test_a_table_introduces_itself():
    text = str(round_table())
    assert "latency table of small" in text
    assert "prefill_ms: 1 held-out networks, mean error 10.0 %" in text
    assert "decode_ms: no held-out network was measured" in text
