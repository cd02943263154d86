import pytest

from hw_profiles.timing import locks


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory, monkeypatch):
    """Tests wait for nobody who times on this machine meanwhile."""
    folder = tmp_path_factory.mktemp("locks")
    monkeypatch.setattr(locks, "lock_folder", lambda: folder)
