from dataclasses import replace

import pytest

from foundation.errors import ProfileError
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.assembly import corrected, merged
from hw_profiles.latency.parts import block_part, outer
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.network.decoder import Decoder, Layer
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, round_table


def both(ms):
    return {reading: Latency((ms,) * 4) for reading in READINGS}


def known_machine(networks=30):
    """Whole networks take 1.2 times the sum of their parts."""
    entries = {
        outer(16, 8): both(1.0),
        block_part(Sum(), 8, 16): both(2.0),
        block_part(Scale(), 8, 16): both(3.0),
    }
    plain, measured = round_table(), []
    for i in range(networks):
        layer = Layer(sequence_mixer=Sum(), channel_mixer=Scale() if i % 3 else None)
        spec = Decoder(vocab=16, d_model=8, layers=(layer,) * (1 + i % 5))
        parts = 1.0 + sum(2.0 + (3.0 if layer.channel_mixer else 0.0) for layer in spec.layers)
        measured.append(MeasuredNetwork(spec, i % 2 == 1, both(1.2 * parts)))
    return replace(plain, entries=entries, networks=tuple(measured), corrections={}, accuracies={})


def test_a_correction_is_fitted_on_some_networks_and_tested_on_others():
    table = corrected(known_machine())
    for reading in READINGS:
        assert table.accuracies[reading].n == 15
        assert table.accuracies[reading].mape < 0.01
        assert table.accuracies[reading].tau > 0.95  # some are equal
        for network, predicted, truth in table.scatter(reading):
            assert predicted == pytest.approx(truth, rel=0.02)
            low, high = table.interval(network.spec)[reading]
            assert low < truth < high
    assert table.trusted


def test_held_out_networks_do_not_enter_the_fit():
    table = known_machine()
    wrong = tuple(
        replace(network, measured=both(100.0)) if network.held_out else network for network in table.networks
    )
    one, other = corrected(table), corrected(replace(table, networks=wrong))
    assert one.corrections == other.corrections
    assert other.accuracies["prefill_ms"].mape > 0.5
    assert not other.trusted
    low, high = other.interval(table.networks[0].spec)["prefill_ms"]
    assert high - low > 10 * (one.interval(table.networks[0].spec)["prefill_ms"][1] - low) or low == 0.0


def test_tables_are_put_together():
    one = known_machine()
    more = block_part(Sum(copies=3), 8, 16)
    other = replace(
        one, space_name="other", networks=(), entries={more: both(7.0), block_part(Sum(), 8, 16): both(2.5)}
    )
    table = merged([one, other])
    assert table.space_name == "small + other"
    assert table.entries[more] == both(7.0)
    assert table.entries[block_part(Sum(), 8, 16)] == both(2.5)  # the later one holds
    assert len(table.networks) == len({network.spec for network in one.networks})
    assert table.accuracies["prefill_ms"].n > 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("torch", "1.0", "torch was '[^']+', is '1.0'"),
        ("gpu", "NVIDIA Abacus", "gpu was None, is 'NVIDIA Abacus'"),
        ("threads", 4, "threads was 1, is 4"),
    ],
)
def test_tables_of_other_machines_are_not_mixed(field, value, message):
    one = known_machine()
    other = replace(one, fingerprint={**fingerprint(SCENARIO), field: value})
    with pytest.raises(ProfileError, match=f"must not be mixed: {message}"):
        merged([one, other])


def test_tables_of_other_scenarios_are_not_mixed():
    one = known_machine()
    with pytest.raises(ProfileError, match="must not be mixed: prompt was 8, is 9"):
        merged([one, replace(one, scenario=replace(SCENARIO, prompt=9))])
    named = replace(one, scenario=replace(SCENARIO, name="chat"))
    assert isinstance(merged([one, named]), LatencyTable)
    with pytest.raises(ProfileError, match="no tables"):
        merged([])
