import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from foundation.errors import ProfileError
from hw_profiles.timing import locks
from hw_profiles.timing.locks import device_key, exclusive, lock_folder, shared

HOLDER = """
import sys, time
from pathlib import Path
from hw_profiles.timing import locks
with getattr(locks, sys.argv[1])("cpu", folder=Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holding(tmp_path):
    """Starts processes that hold a lock until they are told to let go."""
    started = []

    def hold(how):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, how, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()


def test_who_times_is_alone_and_named(holding, tmp_path):
    holder, heard = holding("exclusive"), []
    for way in (exclusive, shared):
        with (
            pytest.raises(ProfileError, match=f"cpu stayed busy: process {holder.pid} has been timing on it"),
            way("cpu", timeout_s=0.2, folder=tmp_path, say=heard.append),
        ):
            pass
    assert len(heard) == 2
    assert heard[0].startswith(f"waiting for cpu: process {holder.pid}")


def test_a_device_is_had_when_it_is_free_again(holding, tmp_path):
    holder = holding("exclusive")
    release = threading.Timer(0.3, holder.communicate, ["\n"])
    began = time.monotonic()
    release.start()
    with exclusive("cpu", timeout_s=20, folder=tmp_path, say=lambda text: None):
        assert time.monotonic() - began > 0.2
    release.join()  # it reads until the process has ended, which the fixture must not cut short


def test_a_process_that_is_killed_lets_go(holding, tmp_path):
    holder = holding("exclusive")
    holder.kill()
    holder.wait()
    with exclusive("cpu", timeout_s=5, folder=tmp_path):
        pass


def test_sharers_run_together_but_not_beside_a_timing(holding, tmp_path):
    holding("shared")
    with shared("cpu", timeout_s=1, folder=tmp_path):
        pass
    with (
        pytest.raises(ProfileError, match="cpu stayed busy: other processes are running on it"),
        exclusive("cpu", timeout_s=0.2, folder=tmp_path, say=lambda text: None),
    ):
        pass


def test_who_waits_for_a_device_goes_before_further_sharers(holding, tmp_path):
    first, order, waiting = holding("shared"), [], threading.Event()

    def take_alone():
        with exclusive("cpu", timeout_s=20, folder=tmp_path, say=lambda text: waiting.set()):
            order.append("exclusive")

    alone = threading.Thread(target=take_alone)
    alone.start()
    assert waiting.wait(10)

    def share():
        with shared("cpu", timeout_s=20, folder=tmp_path, say=lambda text: None):
            order.append("shared")

    late = threading.Thread(target=share)
    late.start()
    time.sleep(0.3)
    assert order == []
    first.communicate("\n")
    alone.join()
    late.join()
    assert order == ["exclusive", "shared"]


def test_threads_exclude_each_other_but_not_themselves(tmp_path):
    got = []

    def take():
        with (
            pytest.raises(ProfileError, match=f"process {os.getpid()} has been timing"),
            exclusive("cpu", timeout_s=0.2, folder=tmp_path, say=lambda text: None),
        ):
            pass
        got.append(True)

    with exclusive("cpu", folder=tmp_path), exclusive("cpu", folder=tmp_path), shared("cpu", folder=tmp_path):
        other = threading.Thread(target=take)
        other.start()
        other.join()
    assert got == [True]
    with exclusive("cpu", timeout_s=0, folder=tmp_path):  # let go of at the outermost end
        pass


def test_sharing_does_not_become_having_alone(tmp_path):
    with (
        shared("cpu", folder=tmp_path),
        pytest.raises(ProfileError, match="cannot have it to itself as well"),
        exclusive("cpu", folder=tmp_path),
    ):
        pass


def test_devices_do_not_exclude_each_other(holding, tmp_path):
    holding("exclusive")
    with exclusive("xpu:1", timeout_s=0, folder=tmp_path):
        pass


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), exclusive("cpu", folder=tmp_path):
        raise RuntimeError("inside")
    with exclusive("cpu", timeout_s=0, folder=tmp_path):
        pass


def test_a_gpu_is_itself_whatever_number_it_has(monkeypatch):
    class Properties:
        uuid = "1234-5678"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    assert device_key("cuda") == device_key("cuda:0") == "gpu-1234-5678"
    assert device_key("cpu") == "cpu"


def test_the_folder_is_this_users_and_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = lock_folder()
    assert folder == lock_folder() == tmp_path / f"nas-locks-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "nas-locks-12345").mkdir()
    with pytest.raises(ProfileError, match="belongs to another user"):
        lock_folder()
