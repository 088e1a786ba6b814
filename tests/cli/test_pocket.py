"""`synpo-lab pocket table`, with runs that only pretend."""

import json
from pathlib import Path
from typing import Any

import pytest

from synpo_lab import jobs, report
from synpo_lab.cli import following, main
from synpo_lab.cli.pocket import CONTESTANTS


def test_a_table_as_json_has_nothing_but_json_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    followed: list[str] = []

    def follow(home: Path, run_id: str, *, as_json: bool, option: str) -> int:
        followed.append(run_id)
        print(json.dumps({"kind": "end"}) if as_json else "a table for people")  # noqa: T201
        return 0

    def rows(home: Path, run_ids: list[str]) -> list[dict[str, Any]]:
        return [{"run_id": run_id} for run_id in run_ids]

    monkeypatch.setattr(jobs, "launch", lambda *_: None)
    monkeypatch.setattr(following, "follow", follow)
    monkeypatch.setattr(report, "comparison_rows", rows)
    with pytest.raises(SystemExit) as ended:
        main(["pocket", "table", "--json", "--seed", "7", "--home", str(tmp_path)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 0
    assert followed == [f"{name}-seed7" for name in CONTESTANTS]
    assert [row["run_id"] for row in lines[-1]] == followed
