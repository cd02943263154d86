"""What a reader sees while a writer writes, and what is left when a writer is killed."""

import signal
import subprocess
import sys
import threading

import pytest

from nas.store import Store
from nas.study.trial import TrialState
from tests.store.made import complete, study_in, trial

WRITER = """
import sys
from nas.store import Store
from tests.store.made import complete, study_in, trial

with Store(sys.argv[1]) as store:
    study = study_in(store)
    store.save(study, [trial(0)])
    for number in range(100_000):
        store.save(study, [complete(number), trial(number + 1)])
        print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 300])
def test_a_killed_writer_leaves_every_saved_trial(tmp_path, lines):
    path = tmp_path / "studies.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        heard = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        heard += writer.stdout.readlines()
    last = max(int(line) for line in heard if line.endswith("\n"))
    with Store(path) as store:
        study = store.study("small")
        found = store.trials(study)
        assert len(found) - 2 in (last, last + 1)  # it may have died between saving and saying so
        assert found == [*(complete(n) for n in range(len(found) - 1)), trial(len(found) - 1)]
        store.save(study, [complete(len(found) - 1)])
        assert store.counts(study) == {TrialState.COMPLETE: len(found)}
        with store._transaction() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_reader_sees_whole_transactions_while_a_writer_writes(tmp_path):
    path = tmp_path / "studies.db"
    with Store(path) as writer:
        study = study_in(writer)
        writer.save(study, [trial(0)])

        def write():
            for number in range(400):
                writer.save(study, [complete(number), trial(number + 1)])

        thread = threading.Thread(target=write)
        known, revision = {}, 0
        with Store(path, read_only=True) as reader:
            thread.start()
            while thread.is_alive():
                news, revision = reader.trials_changed_since(study, revision)
                known |= {trial.number: trial for trial in news}
                found = reader.trials(study)
                assert found[-1].state is TrialState.RUNNING
                assert all(trial.state is TrialState.COMPLETE for trial in found[:-1])
            thread.join()
            news, _ = reader.trials_changed_since(study, revision)
            known |= {trial.number: trial for trial in news}
            assert [known[number] for number in sorted(known)] == reader.trials(study)
            assert len(known) == 401


def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path):
    program = "import sys; from nas.store import Store; Store(sys.argv[1]).close()"
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "studies.db")]
    openers = [subprocess.Popen(command) for _ in range(3)]
    assert [opener.wait() for opener in openers] == [0, 0, 0]
