from pathlib import Path

import pytest

from storage import StorageFault
from storage.locks import hold_lock, is_held


def test_a_lock_is_held_once_and_let_go_of(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert not is_held(path)
    with hold_lock(path, busy="taken"):
        assert is_held(path)
        with pytest.raises(StorageFault, match="taken"), hold_lock(path, busy="taken", hint="wait"):
            raise AssertionError("held twice")
    assert not is_held(path)
    with hold_lock(path, busy="taken"):
        pass
