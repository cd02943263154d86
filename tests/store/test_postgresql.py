"""The store on a real PostgreSQL, where its server and the driver are installed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from foundation.errors import StoreError, UnknownName
from nas.store import Measurement, Store
from nas.study.trial import TrialState, Value
from tests.store.made import complete, study_in, trial

pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def url():
    """A server of its own on a socket in a new folder."""
    found = shutil.which("postgres")
    programs = Path(found).resolve().parent if found else Path("/usr/lib/postgresql")
    if not (programs / "initdb").exists() or (os.getuid() == 0 and not shutil.which("runuser")):
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        as_user = []
        if os.getuid() == 0:  # PostgreSQL refuses to be run by root
            shutil.chown(folder, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        data = ["--pgdata", f"{folder}/data"]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
        initdb = [str(programs / "initdb"), *data, "--auth=trust", "--username=me", "--no-sync"]
        subprocess.run([*as_user, *initdb], **quiet)
        control = [*as_user, str(programs / "pg_ctl"), *data, "--wait", f"--log={folder}/log"]
        subprocess.run([*control, f"-o -k {folder} -h '' -F", "start"], **quiet)
        yield f"postgresql://me:secret@/postgres?host={folder}"
        subprocess.run([*control, "--mode=immediate", "stop"], **quiet)


def test_a_study_lives_on_postgresql(url):
    with Store(url) as store:
        assert "secret" not in store.url
        study = study_in(store)
        assert study_in(store) == study
        store.save(study, [trial(0), trial(1)])
        store.save(study, [complete(0, memo={"a": "\0"}), trial(2, reason="\0 \udcff", seed=2**63 - 1)])
        with pytest.raises(StoreError, match="study 'small' holds space ab12, not cd34"):
            study_in(store, space="cd34")
        store.add_measurements(study, [Measurement("ab", "ttft_ms", None, Value(3.5), 1.0)])
        store.update_config(study, {"plan": 1})
    with Store(url, read_only=True) as reader:
        first, second, third = reader.trials(study)
        assert (first, second) == (complete(0, memo={"a": "\0"}), trial(1))
        assert (third.reason, third.seed) == ("\\x00 \\udcff", 2**63 - 1)
        assert reader.counts(study) == {TrialState.COMPLETE: 1, TrialState.RUNNING: 2}
        news, revision = reader.trials_changed_since(study, 2)
        assert [trial.number for trial in news] == [0, 2]
        assert reader.trials_changed_since(study, revision) == ([], revision)
        assert reader.find(study, first.digest, fidelity=first.fidelity, seed=0) == first
        assert len(reader.measurements(study, "ab")) == 1
        assert reader.study("small").config == {"plan": 1}
        with pytest.raises(StoreError, match="read-only transaction"):
            reader.save(study, [trial(3)])
    with Store(url) as store:
        store.delete_study("small")
        with pytest.raises(UnknownName, match="no study 'small'"):
            store.study("small")
        with pytest.raises(StoreError, match="study small is no longer in"):
            store.save(study, [trial(0)])


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(StoreError, match=r"nowhere.*: .*No such file or directory"):
        Store("postgresql://me:secret@/x?host=/nowhere")
