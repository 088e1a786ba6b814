"""Asking the policies of a run about its pairs after the fact."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.state import hold_worker_lock, read_state, set_state
from synpo_lab.errors import RunError
from synpo_lab.home import open_store
from synpo_lab.jobs import looking
from synpo_lab.records import Pair, PairLogp
from synpo_lab.run import Run

Start = Callable[..., Run]
SMALL: dict[str, Any] = {
    "iterations": 2,
    "prompts": {"per_iteration": 24},
    "improver": {"min_gap": -1.0},
    "scorer": {"name": "length"},
    "filter": {"min_gap": -1.0, "max_repetition": 1.0},
    "simpo": {"betas": [2]},
    "eye": {"pairs": 0},
}


class NoSignal:
    came = False

    def check(self) -> None:
        """Nobody asks a test to stop."""


@pytest.fixture
def unseen(quick: dict[str, str], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab home with a finished run "r" whose policies were asked nothing."""
    monkeypatch.setattr(looking, "StopSignal", NoSignal)
    run = start("r", **SMALL, **quick)
    set_state(run.model_folder("x").parents[1], "finished")
    assert not list(run.read(PairLogp))
    return tmp_path / "home"


def orders(rounds: list[int], pairs: int | None = None) -> str:
    return json.dumps({"rounds": rounds, "pairs": pairs})


def test_a_finished_run_is_looked_at_and_stays_finished(unseen: Path) -> None:
    assert looking.policies(unseen, "r") == [1, 2]
    assert looking.main(unseen, "r", orders([1, 2])) == 0
    run = open_store(unseen).run("r")
    pairs, looked = list(run.read(Pair)), list(run.read(PairLogp))
    assert {(x.iteration, x.model) for x in looked} == {(1, "M_0"), (1, "M_1"), (2, "M_0"), (2, "M_2")}
    assert {x.pair_id for x in looked if x.model == "M_2"} == {pair.pair_id for pair in pairs}
    assert read_state(run.folder).state == "finished"
    again = list(run.read(PairLogp))
    assert looking.main(unseen, "r", orders([1, 2])) == 0
    assert list(open_store(unseen).run("r").read(PairLogp)) == again


def test_one_round_and_fewer_pairs_can_be_asked_for(unseen: Path) -> None:
    assert looking.main(unseen, "r", orders([2], pairs=5)) == 0
    looked = list(open_store(unseen).run("r").read(PairLogp))
    assert [x.model for x in looked] == ["M_0"] * 5 + ["M_2"] * 5


def test_what_goes_wrong_is_in_the_log_and_in_the_exit_code(unseen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_store(unseen).run("r")
    (run.models / "M_1" / "model.safetensors").unlink()
    assert looking.main(unseen, "r", orders([1])) == 1
    last = run.events()[0][-1]
    assert last["level"] == "error"
    assert "could not be asked" in last["message"]
    assert read_state(run.folder).state == "finished"


def test_whatever_makes_no_sense_is_refused_with_a_hint(unseen: Path, quick: dict[str, str], start: Start) -> None:
    with pytest.raises(RunError, match="no policy M_7") as caught:
        looking.look(unseen, "r", 7)
    assert "M_1, M_2" in caught.value.hint
    run = open_store(unseen).run("r")
    with hold_worker_lock(run.folder):
        assert looking.is_looking(unseen, "r")
        with pytest.raises(RunError, match="being asked already"):
            looking.look(unseen, "r")
        assert looking.main(unseen, "r", orders([1])) == 2
    assert not looking.is_looking(unseen, "r")
    bare = start("bare", **(SMALL | {"recipe": "seed-sft", "iterations": 1}), **quick)
    set_state(bare.model_folder("x").parents[1], "finished")
    with pytest.raises(RunError, match="no policy trained on pairs"):
        looking.look(unseen, "bare")
