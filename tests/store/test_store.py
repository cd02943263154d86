import math
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import SettingError, StoreError, UnknownName
from nas.store import Measurement, Store
from nas.study.trial import Fidelity, TrialState, Value
from search_spaces.language.genotype import Genotype
from tests.store import made
from tests.store.made import complete, study_in, trial


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "studies.db"


@pytest.fixture
def store(path):
    with Store(path) as store:
        yield store


@pytest.fixture
def study(store):
    return study_in(store)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(trials=st.lists(made.trials, max_size=4, unique_by=lambda trial: (trial.stage, trial.number)))
def test_what_is_saved_is_read_again(path, trials):
    with Store(path) as store:
        study_in(store)
        store.delete_study("small")
        study = study_in(store)
        store.save(study, trials)
    with Store(path, read_only=True) as store:
        found = store.trials(study, stage=None)
        assert found == sorted(trials, key=lambda trial: (trial.stage, trial.number))
        assert [trial.digest for trial in found] == [trial.genotype.digest for trial in found]
        for trial in trials:
            assert trial in store.trials(study, trial.stage)


def test_a_later_word_replaces_an_earlier_one(store, study):
    store.save(study, [trial(0), trial(1)])
    store.save(study.id, [complete(0), trial(2), complete(2)])
    assert store.trials(study) == [complete(0), trial(1), complete(2)]
    assert store.counts(study) == {TrialState.COMPLETE: 2, TrialState.RUNNING: 1}


def test_stages_count_for_themselves(store, study):
    store.save(study, [trial(0), complete(0, stage="final"), trial(1)])
    assert store.trials(study, "final") == [complete(0, stage="final")]
    assert store.trials(study, None, since=1) == store.trials(study, since=1) == [trial(1)]
    assert store.counts(study, "final") == {TrialState.COMPLETE: 1}
    assert store.counts(study, None) == {TrialState.COMPLETE: 1, TrialState.RUNNING: 2}


def test_studies_do_not_see_each_others_trials(store, study):
    other = study_in(store, "other")
    store.save(study, [trial(0)])
    store.save(other, [complete(0)])
    assert store.trials(study) == [trial(0)]
    assert store.find(study, trial(0).digest, fidelity=trial(0).fidelity, seed=0) is None
    assert store.trials_changed_since(other, 0) == ([complete(0)], 1)


def test_saving_nothing_is_fine(store, study):
    store.save(study, [])
    store.add_measurements(study, [])
    assert store.trials(study) == store.measurements(study) == []


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["values", "memo", "genotype"])
def test_numbers_that_are_not_finite_are_refused(store, study, broken, where):
    bad = {
        "values": {"loss": Value(broken)},
        "memo": {"temperature": [broken]},
        "genotype": Genotype({"width": broken}),
    }[where]
    with pytest.raises(ValueError, match="search trial 1 cannot be stored, its numbers must be finite"):
        store.save(study, [trial(0), trial(1, **{where: bad})])
    assert store.trials(study) == []


def test_numbers_that_are_not_finite_are_refused_elsewhere(store, study):
    with pytest.raises(ValueError, match="measurement ttft_ms of ab cannot be stored"):
        store.add_measurements(study, [Measurement("ab", "ttft_ms", None, Value(math.nan), 1.0)])
    with pytest.raises(ValueError, match="config of a study cannot be stored"):
        store.update_config(study, {"temperature": math.inf})


def test_a_reason_may_quote_anything(store, study):
    store.save(study, [trial(0, reason="cannot read \udcff\0 at é")])
    assert store.trials(study)[0].reason == "cannot read \\udcff\\x00 at é"


def test_changes_are_heard_once(store, study, path):
    store.save(study, [trial(0), trial(1)])
    with Store(path, read_only=True) as reader:
        news, revision = reader.trials_changed_since(study, 0)
        assert news == [trial(0), trial(1)]
        assert reader.trials_changed_since(study, revision) == ([], revision)
        store.save(study, [complete(0), trial(0, stage="final")])
        news, later = reader.trials_changed_since(study, revision)
        assert news == [complete(0), trial(0, stage="final")]
        assert later > revision
        with Store(path) as other_writer:
            other_writer.save(study, [complete(1)])
        assert reader.trials_changed_since(study, later)[0] == [complete(1)]


def test_a_poll_without_news_reads_the_index_only(store, study):
    with store._transaction() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT * FROM trials WHERE study_id = 1 AND revision > 5 ORDER BY revision"
        ).all()
    assert len(plan) == 1
    assert "trials_by_revision (study_id=? AND revision>?)" in plan[0][-1]


def test_find_wants_the_same_architecture_scored_the_same_way(store, study):
    store.save(study, [trial(0), complete(1), complete(2, genotype=trial(1).genotype, reused=1)])
    digest, fidelity = complete(1).digest, complete(1).fidelity
    assert store.find(study, digest, fidelity=fidelity, seed=0) == complete(1)
    assert store.find(study, trial(0).digest, fidelity=fidelity, seed=0) is None
    assert store.find(study, digest, fidelity=fidelity, seed=1) is None
    assert store.find(study, digest, fidelity=Fidelity(evaluator="supernet", steps=11), seed=0) is None
    assert store.find(study, digest, fidelity=Fidelity(evaluator="scratch", steps=10), seed=0) is None
    assert store.find(study, digest, fidelity=fidelity, seed=0, stage="final") is None


def test_measurements(store, study):
    scenario = {"device": "cpu", "batch": 1}
    first = Measurement("ab", "ttft_ms", scenario, Value(3.5, 0.1, "measured", (3.0, 4.0)), 1.0)
    second = Measurement("ab", "weight_bytes", None, Value(7), 2.0)
    third = Measurement("cd", "ttft_ms", scenario, Value(4.5), 3.0)
    store.add_measurements(study, [first, second])
    store.add_measurements(study.id, [third])
    assert store.measurements(study) == [first, second, third]
    assert store.measurements(study, "ab") == [first, second]
    assert store.measurements(study, name="ttft_ms") == [first, third]
    assert store.measurements(study, "cd", "weight_bytes") == []
    assert store.measurements(study_in(store, "other")) == []


def test_a_study_of_the_same_space_is_found_again_unchanged(store, study):
    again = store.create_study("small", space_digest="ab12", space_json="[]", config={"other": 1})
    assert again == study == store.study("small")
    assert study.config == {"plan": {"trials": 3}}


def test_a_name_holds_one_space(store, study):
    said = r"study 'small' holds space ab12, not cd34: choose another name \(seed_from='small' begins"
    with pytest.raises(StoreError, match=said):
        study_in(store, space="cd34")
    assert store.studies() == [study]


def test_studies_are_listed_newest_first(store):
    names = ["one", "two", "three"]
    for name in names:
        study_in(store, name)
    assert [study.name for study in store.studies()] == names[::-1]


def test_an_unknown_study_is_answered_with_the_nearest(store, study):
    with pytest.raises(UnknownName, match=r"no study 'smal' in .*studies.db; did you mean 'small'\?"):
        store.study("smal")
    with pytest.raises(UnknownName, match="known: small"):
        store.delete_study("zebra")


def test_names_must_be_folders(store):
    with pytest.raises(SettingError, match="letters, digits"):
        study_in(store, "../up")
    with pytest.raises(SettingError, match=r"cannot be named 'studies.db'"):
        study_in(store, "studies.db")
    assert store.studies() == []


def test_a_deleted_study_takes_everything_with_it(store, study):
    store.save(study, [trial(0)])
    store.add_measurements(study, [Measurement("ab", "ttft_ms", None, Value(3.5), 1.0)])
    store.delete_study("small")
    again = study_in(store)
    assert again.id > study.id
    for deleted in (study, again):
        assert store.trials(deleted) == store.measurements(deleted) == []
    with pytest.raises(StoreError, match=r"study small is no longer in .*: it was deleted meanwhile"):
        store.save(study, [trial(0)])
    with pytest.raises(StoreError, match="study small is no longer in"):
        store.update_config(study, {})


def test_config_can_be_replaced(store, study):
    store.update_config(study.id, {"plan": {"trials": 9}})
    assert store.study("small").config == {"plan": {"trials": 9}}


def test_a_store_may_be_shared_by_threads(store, study):
    def work(offset):
        for number in range(offset, offset + 20):
            store.save(study, [trial(number)])
            store.trials(study, since=number)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.trials(study)) == 80


def test_a_store_in_memory():
    with Store("sqlite://") as store:
        study = study_in(store)
        store.save(study, [trial(0)])
        assert store.trials(study) == [trial(0)]
    store.close()
