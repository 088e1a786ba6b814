"""Compare: what one run changed against another, and how to run either again."""

import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import compare, overview
from pages.again import again_of
from pages.forks import fork_told
from pages.shell import Lab, Selection
from storage.queries import grid_results, win_rate_curve
from storage.queries.comparison import paired_changes
from synpo_lab.again import command
from synpo_lab.config import load
from synpo_lab.home import open_store
from synpo_lab.jobs.forking import make_fork
from tests.pages.test_data import JUDGED, imported
from tests.plausible_run import write_run

A, B = "run-a", "run-b"


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("two")
    write_run(home, A, iterations=2, prompts=30)
    write_run(home, B, iterations=1, prompts=20, title="<b>B</b>", created_at=1_767_268_900.0)
    return home


@pytest.fixture
def lab(two_runs: Path) -> Iterator[Lab]:
    made = Lab(two_runs)
    yield made
    made.close()


def text(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", html).split())


def panels(lab: Lab) -> list[object]:
    one, two = lab.run(A), lab.run(B)
    assert one is not None
    assert two is not None
    return compare._panels(lab, one, two)


def test_every_key_that_differs_is_told_with_both_values(lab: Lab) -> None:
    told = compare._config(lab, A, B)
    assert told.count("<tr>") == 1 + 3
    assert "prompts.per_iteration 30 20" in text(told)
    assert "iterations 2 1" in text(told)
    assert "&lt;b&gt;B&lt;/b&gt;" in told
    assert "<b>B" not in told
    assert "Nothing" in compare._config(lab, A, A)


def test_both_curves_are_in_one_plot_with_their_intervals(lab: Lab) -> None:
    figure = panels(lab)[1]
    for trace, run_id in zip(figure.data, (A, B), strict=True):  # type: ignore[attr-defined]
        curve = [point for point in win_rate_curve(lab.database, [run_id]) if point.suite == "pocket"]
        assert list(trace.y) == pytest.approx([point.win_rate for point in curve])
        assert len(trace.error_y.array) == len(trace.error_y.arrayminus) == len(curve)
        assert run_id in trace.name


def test_each_policy_stands_beside_the_other_run_s(lab: Lab) -> None:
    results = str(panels(lab)[3])
    rows = [text(row) for row in re.findall("<tr>(.*?)</tr>", results)[1:]]
    assert [row.split()[1] for row in rows] == ["0", "1", "2"]
    assert all(" | " in row for row in rows)
    assert rows[2].endswith("| –")  # B made no second iteration
    for point in win_rate_curve(lab.database, [A, B], "pocket"):
        assert f"{point.win_rate:.1%}" in results


def test_the_same_prompts_are_compared_one_by_one(lab: Lab) -> None:
    changes = paired_changes(lab.database, A, B)
    told = compare._prompt_by_prompt(changes)
    assert told.count("<tr>") == 1 + len(changes)
    assert "No held-out prompt" in compare._prompt_by_prompt([])


def test_which_beta_won_and_by_how_much_is_told_of_both_runs(lab: Lab) -> None:
    told = text(str(panels(lab)[5]))
    for run_id in (A, B):
        for found in grid_results(lab.database, run_id):
            assert f"{found.score:.3f}" in told
    assert told.count("chosen") == 3  # two iterations of A, one of B


def test_the_address_names_b_and_else_it_is_the_newest_other_run(lab: Lab) -> None:
    assert compare._both(lab, Selection(A, {"with": B})) == (A, B)
    assert compare._both(lab, Selection(A, {})) == (A, B)
    assert compare._both(lab, Selection(B, {"with": "nobody"})) == (B, A)


def test_a_fork_stands_as_b_beside_its_parent_and_says_whose_rows_are_whose(tmp_path: Path) -> None:
    write_run(tmp_path, A, iterations=2, prompts=10)
    make_fork(tmp_path, A, 2, ["filter.min_gap=0.3"], "forked")
    write_run(tmp_path, B, iterations=1, prompts=10, created_at=time.time() + 60)  # newer, and no kin
    lab = Lab(tmp_path)
    assert compare._both(lab, Selection("forked", {})) == (A, "forked")
    assert compare._both(lab, Selection(A, {})) == (A, "forked")
    assert compare._both(lab, Selection("forked", {"with": A})) == ("forked", A)
    one, two = lab.run(A), lab.run("forked")
    assert one is not None
    assert two is not None
    told = text(str(compare._panels(lab, one, two)[3]))
    assert "forked is a fork of run-a at M 2 . Its M 1 is its parent’s." in told
    assert "what its own filter says now, for M 2 to train on" in told
    assert fork_told(one) == ""
    assert "is a fork of" in overview._results(lab, "forked", lab.overview(two))
    lab.close()


def test_a_data_set_is_compared_by_what_it_is_not_as_a_training(two_runs: Path, tmp_path: Path) -> None:
    shutil.copytree(two_runs, tmp_path / "two")
    imported(tmp_path, "judged", [JUDGED], home="two")
    lab = Lab(tmp_path / "two")
    assert compare._both(lab, Selection("judged", {})) == ("judged", None)
    assert "One data set alone" in compare._shown(lab, "judged", None)[0]
    one, two = lab.run(A), lab.run("judged")
    assert one is not None
    assert two is not None
    assert lab.overview(two)[0].win_rate is not None
    config, curve, scores, results, *_ = compare._panels(lab, one, two)
    assert "never trained" in str(config)
    assert "<tr>" not in str(config)
    assert [len(trace.y) for trace in curve.data] == [3, 0]  # type: ignore[attr-defined]
    assert all(trace.name.startswith("A") for trace in scores.data)  # type: ignore[attr-defined]
    rows = [text(row) for row in re.findall("<tr>(.*?)</tr>", str(results))[1:]]
    assert not any(re.search(r"\| \d+\.\d%", row) for row in rows)
    lab.close()


def test_one_run_alone_says_what_to_do(lab: Lab) -> None:
    assert "One run alone" in compare._shown(lab, A, A)[0]
    assert "One run alone" in compare._shown(lab, A, None)[0]
    assert "No run" in compare._shown(lab, None, None)[0]
    assert len(compare._shown(lab, A, B)) == len(compare._shown(lab, A, A)) == 14


def test_the_run_can_be_run_again_from_what_is_copied(lab: Lab, tmp_path: Path) -> None:
    panel, line, yaml = again_of(lab, A)
    config = lab.config(A)
    assert panel.visible
    assert line == command(config)
    (tmp_path / "run.yaml").write_text(yaml, encoding="utf-8")
    assert load(tmp_path / "run.yaml") == config
    panel, line, yaml = again_of(lab, None)
    assert (panel.visible, line, yaml) == (False, None, None)


def test_a_fork_is_run_again_as_a_fork(tmp_path: Path) -> None:
    write_run(tmp_path, A, iterations=2, prompts=20)
    make_fork(tmp_path, A, 2, ["filter.min_gap=0.3", "simpo.betas=[4, 10]"], "forked")
    lab = Lab(tmp_path)
    _, line, yaml = again_of(lab, "forked")
    words = shlex.split(line)
    assert words[:5] == ["synpo-lab", "fork", A, "--iteration", "2"]
    assert words[5::2] == ["--set"] * len(words[6::2])
    assert "filter.min_gap=0.3" in words
    make_fork(tmp_path, A, int(words[4]), words[6::2], "again")
    assert lab.config("again") == lab.config("forked")
    assert f"goes on from iteration 2 of {A}" in yaml.splitlines()[0]
    shutil.rmtree(open_store(tmp_path).run(A).folder)
    assert again_of(lab, "forked")[1].startswith(f"# it was forked from {A}")
    lab.close()


def test_a_damaged_config_is_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    for name in (A, B):
        write_run(tmp_path, name, iterations=1, prompts=10)
    (open_store(tmp_path).run(B).folder / "run.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    lab = Lab(tmp_path)
    assert "nonsense" in compare._config(lab, A, B)
    assert again_of(lab, B)[0].visible is False
    lab.close()
