"""The run folders at a glance: who scores, told from a config that may be of any shape."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from storage import Store
from storage.folders import RunFolders
from synpo_lab.records import TABLES


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"name": "rubric", "model": None}, "rubric"),
        ({"name": "reward-model", "model": "hub:Skywork/Reward"}, "reward-model:Skywork/Reward"),
        ({"name": "reward-model", "model": "hub:Skywork/Reward", "revision": "v2"}, "reward-model:Skywork/Reward@v2"),
        ({"name": "pairwise", "model": "/models/mine/PairRM"}, "pairwise:PairRM"),
        ({"name": "judge", "model": None, "judge": {"engine": {"openai": {"model": "big-70b"}}}}, "judge:big-70b"),
        ({"name": "judge", "judge": [1]}, "judge"),
        ({"model": "x"}, ""),
        ("rubric", ""),
        (None, ""),
    ],
)
def test_the_scorer_is_told_with_its_model(tmp_path: Path, scorer: Any, told: str) -> None:
    store = Store(tmp_path, TABLES)
    store.create_run("r", yaml.safe_dump({"recipe": "synpo", "scorer": scorer}), {})
    [row] = RunFolders(store).rows()
    assert row.scorer == told
