"""Real detached processes, with a recipe that only counts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from storage.state import read_state
from synpo_lab import jobs
from synpo_lab.config import RunConfig
from synpo_lab.errors import ConfigError, RunError, StorageError
from synpo_lab.home import open_store
from synpo_lab.jobs import launching, paths
from synpo_lab.records import Prompt


def config(iterations: int = 2, counts: int = 20, recipe: str = "synpo", **orders: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "recipe": recipe,
            "iterations": iterations,
            "prompts": {"per_iteration": counts},
            "title": json.dumps(orders),
        }
    )


def wait_until(seen: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.05)


def state(home: Path, run_id: str) -> str:
    return read_state(home / "runs" / run_id).state


def wait_for_state(home: Path, run_id: str, wanted: str) -> None:
    wait_until(lambda: state(home, run_id) == wanted)


def made(home: Path, run_id: str) -> list[str]:
    path = home / "runs" / run_id / "made.txt"
    return path.read_text().split() if path.exists() else []


def saved(home: Path, run_id: str) -> list[str]:
    return [prompt.prompt_id for prompt in open_store(home).run(run_id).read(Prompt)]


def kill(home: Path, run_id: str) -> None:
    pid = read_state(home / "runs" / run_id).pid
    assert pid
    os.kill(pid, signal.SIGKILL)


def test_a_run_finishes_in_a_process_of_its_own_and_says_so(counting: Path) -> None:
    run_id = jobs.launch(counting, config(iterations=2, counts=5))
    wait_for_state(counting, run_id, "finished")
    assert sorted(saved(counting, run_id)) == sorted(f"{t}-{n}" for t in (1, 2) for n in range(5))
    (seen,) = jobs.status(counting)
    assert (seen.stage, seen.iteration, seen.done, seen.total, seen.iterations) == ("count", 2, 5, 5, 2)
    assert seen.message == ""
    assert seen.elapsed > 0


def test_a_worker_outlives_the_process_that_launched_it(counting: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from synpo_lab import jobs; from synpo_lab.config import RunConfig;"
        f"jobs.launching.WORKER = {launching.WORKER!r};"
        f"jobs.launch(Path({str(counting)!r}), RunConfig.model_validate_json(sys.argv[1]), 'orphan');"
        "os.killpg(0, signal.SIGHUP); os.kill(os.getpid(), signal.SIGKILL)"
    )
    slow = config(counts=20, pause=0.05).model_dump_json()
    launcher = subprocess.run([sys.executable, "-c", script, slow], start_new_session=True, check=False)
    assert launcher.returncode < 0
    assert state(counting, "orphan") in {"queued", "running"}
    wait_for_state(counting, "orphan", "finished")
    assert len(saved(counting, "orphan")) == 40


def test_a_killed_run_reads_as_interrupted_and_resume_finishes_it_repeating_nothing_saved(counting: Path) -> None:
    run_id = jobs.launch(counting, config(iterations=3, counts=40, pause=0.03))
    wait_until(lambda: any(item.startswith("2-") for item in saved(counting, run_id)))
    kill(counting, run_id)
    wait_for_state(counting, run_id, "interrupted")
    kept = saved(counting, run_id)

    jobs.resume(counting, run_id)
    wait_for_state(counting, run_id, "finished")
    counts = Counter(made(counting, run_id))
    assert all(counts[item] == 1 for item in kept)
    assert sorted(saved(counting, run_id)) == sorted(f"{t}-{n}" for t in (1, 2, 3) for n in range(40))


def test_stop_ends_a_run_within_seconds_and_keeps_every_row_it_made(counting: Path) -> None:
    run_id = jobs.launch(counting, config(counts=2000, pause=0.02))
    wait_until(lambda: len(made(counting, run_id)) > 5)
    assert jobs.stop(counting, run_id, wait=10)
    assert state(counting, run_id) == "stopped"
    assert saved(counting, run_id) == made(counting, run_id)


def test_a_stopped_run_goes_on_where_it_was(counting: Path) -> None:
    run_id = jobs.launch(counting, config(iterations=1, counts=30, pause=0.05))
    wait_until(lambda: len(made(counting, run_id)) > 5)
    jobs.stop(counting, run_id, wait=10)
    jobs.resume(counting, run_id)
    wait_for_state(counting, run_id, "finished")
    assert sorted(made(counting, run_id)) == sorted(f"1-{n}" for n in range(30))


def test_a_run_that_does_not_listen_is_killed_when_that_was_asked_for(counting: Path) -> None:
    run_id = jobs.launch(counting, config(recipe="seed-sft"))
    wait_until(lambda: jobs.Watch(counting).run(run_id).stage == "sleep")
    assert not jobs.stop(counting, run_id, wait=0.5)
    wait_for_state(counting, run_id, "stopping")
    child = psutil.Process(int((counting / "runs" / run_id / "child.txt").read_text()))
    assert jobs.stop(counting, run_id, wait=0.5, kill=True)
    assert state(counting, run_id) == "stopped"
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_runs_of_a_home_take_turns_in_the_order_they_were_asked_for(counting: Path) -> None:
    first = jobs.launch(counting, config(iterations=1, counts=4_000, pause=0.05))
    second = jobs.launch(counting, config(iterations=1, counts=1))
    third = jobs.launch(counting, config(iterations=1, counts=1))
    messages = {status.run_id: status.message for status in jobs.status(counting)}
    assert (state(counting, second), state(counting, third)) == ("queued", "queued")
    assert messages[second] == f"behind {first}"
    assert messages[third] == f"behind {second}"
    assert jobs.stop(counting, first, wait=30)
    wait_for_state(counting, third, "finished")
    starts = {run_id: open_store(counting).run(run_id).events()[0][0]["at"] for run_id in (first, second, third)}
    ends = {run_id: open_store(counting).run(run_id).events()[0][-1]["at"] for run_id in (first, second, third)}
    assert ends[first] <= starts[second] <= ends[second] <= starts[third]


def test_a_queued_run_starts_when_the_one_in_front_is_killed(counting: Path) -> None:
    first = jobs.launch(counting, config(recipe="seed-sft"))
    wait_for_state(counting, first, "running")
    second = jobs.launch(counting, config(iterations=1, counts=1))
    assert state(counting, second) == "queued"
    kill(counting, first)
    wait_for_state(counting, second, "finished")
    assert state(counting, first) == "interrupted"


def test_a_queued_run_can_be_stopped_at_once(counting: Path) -> None:
    first = jobs.launch(counting, config(recipe="seed-sft"))
    wait_for_state(counting, first, "running")
    second = jobs.launch(counting, config())
    assert jobs.stop(counting, second, wait=3)
    assert state(counting, second) == "stopped"
    assert made(counting, second) == []


def test_a_second_worker_leaves_a_run_that_has_one_alone(counting: Path) -> None:
    run_id = jobs.launch(counting, config(recipe="seed-sft"))
    wait_for_state(counting, run_id, "running")
    second = subprocess.run([*launching.WORKER, str(counting), run_id], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "another process" in second.stderr
    assert state(counting, run_id) == "running"


def test_a_mistake_of_the_user_fails_the_run_with_message_and_hint_and_the_story_in_the_log(counting: Path) -> None:
    run_id = jobs.launch(counting, config(counts=1, fail="lab"))
    wait_for_state(counting, run_id, "failed")
    message = read_state(counting / "runs" / run_id).message
    assert message == "the model folder 'nowhere' is empty\nhint: name another with --set policy=FOLDER"
    assert "Traceback" in jobs.log_tail(counting / "runs" / run_id)


def test_a_bug_fails_the_run_with_a_short_message_and_the_traceback_in_the_log(counting: Path) -> None:
    run_id = jobs.launch(counting, config(counts=1, fail="bug"))
    wait_for_state(counting, run_id, "failed")
    message = read_state(counting / "runs" / run_id).message
    assert message.startswith("ZeroDivisionError: division by zero\n")
    assert "Traceback" not in message
    assert "Traceback" in jobs.log_tail(counting / "runs" / run_id)


def test_an_id_that_is_taken_is_refused_and_the_run_that_has_it_untouched(counting: Path) -> None:
    jobs.launch(counting, config(iterations=1, counts=1), "mine")
    wait_for_state(counting, "mine", "finished")
    with pytest.raises(StorageError, match="'mine' already"):
        jobs.launch(counting, config(iterations=9), "mine")
    assert state(counting, "mine") == "finished"


@pytest.mark.parametrize("run_id", ["../escape", "a/b", ".hidden", "x" * 81, "a b"])
def test_an_id_that_is_no_plain_folder_name_is_refused(counting: Path, run_id: str) -> None:
    with pytest.raises(StorageError, match="cannot name a run"):
        jobs.launch(counting, config(), run_id)


def test_a_home_that_cannot_be_written_is_refused_with_a_hint() -> None:
    with pytest.raises(StorageError) as caught:
        jobs.launch(Path("/proc/lab"), config())
    assert "--home" in caught.value.hint


def test_resume_is_refused_for_a_run_at_work_and_for_a_finished_one(counting: Path) -> None:
    run_id = jobs.launch(counting, config(iterations=1, counts=10, pause=0.1))
    with pytest.raises(RunError, match="already"):
        jobs.resume(counting, run_id)
    wait_for_state(counting, run_id, "finished")
    with pytest.raises(RunError, match="nothing to resume"):
        jobs.resume(counting, run_id)
    with pytest.raises(RunError, match="not at work"):
        jobs.stop(counting, run_id)


def test_a_worker_that_cannot_even_start_is_reported_with_its_last_words(
    counting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "WORKER", (sys.executable, "-c", "raise SystemExit('no such engine')"))
    with pytest.raises(RunError, match="no such engine"):
        jobs.launch(counting, config(), "stillborn")


def test_a_run_remembers_versions_code_and_the_config_it_was_given(counting: Path) -> None:
    run_id = jobs.launch(counting, config(iterations=1, counts=1))
    wait_for_state(counting, run_id, "finished")
    info = json.loads((counting / "runs" / run_id / "run.json").read_text())
    assert info["versions"]["torch"].startswith("2.")
    assert len(info["code"]["source"]) == 12
    assert launching.stored_config(open_store(counting).run(run_id)) == config(iterations=1, counts=1)


def test_files_in_a_config_are_stored_with_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeds.jsonl").touch()
    (tmp_path / "pocket").mkdir()
    pinned = paths.with_absolute_paths(RunConfig(seeds="seeds.jsonl", policy="pocket"))
    assert (pinned.seeds, pinned.policy) == (str(tmp_path / "seeds.jsonl"), "pocket")


def test_a_scorers_models_and_other_files_are_named_from_the_root_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("judge", "other", "chat.jinja", "shard.yaml"):
        (tmp_path / name).mkdir()
    given = RunConfig.model_validate(
        {
            "scorer": {"name": "implicit", "model": "judge", "reference": "other"},
            "chat_template": "chat.jinja", "training": {"accelerate": "shard.yaml"},
        }
    )  # fmt: skip
    pinned = paths.with_absolute_paths(given)
    assert (pinned.scorer.model, pinned.scorer.reference) == (str(tmp_path / "judge"), str(tmp_path / "other"))
    assert (pinned.chat_template, pinned.training.accelerate) == (
        str(tmp_path / "chat.jinja"),
        str(tmp_path / "shard.yaml"),
    )
    plain = paths.with_absolute_paths(RunConfig())
    assert (plain.scorer.model, plain.chat_template, plain.training.accelerate) == (None, "", "")


def test_a_damaged_run_is_listed_and_hides_no_other(counting: Path) -> None:
    for run_id in ("good", "bad"):
        jobs.launch(counting, config(iterations=1, counts=1), run_id)
        wait_for_state(counting, run_id, "finished")
    (counting / "runs" / "bad" / "run.json").write_text("{")
    listed = {status.run_id: status for status in jobs.status(counting)}
    assert listed["good"].state == "finished"
    assert "cannot be read" in listed["bad"].message


def test_a_stored_config_that_was_edited_badly_is_a_mistake_with_its_place(counting: Path) -> None:
    run_id = jobs.launch(counting, config(counts=1, fail="lab"))
    wait_for_state(counting, run_id, "failed")
    path = counting / "runs" / run_id / "run.yaml"
    for text in ("iterations: [", "iteration: 3"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"run\.yaml"):
            jobs.resume(counting, run_id)
    assert state(counting, run_id) == "failed"


def test_many_threads_may_share_a_watch(home: Path) -> None:
    run = open_store(home).create_run("a", config().to_yaml(), {})
    for second in range(1000):
        run.event("draft", at=float(second))
    watch = jobs.Watch(home)
    with ThreadPoolExecutor(16) as pool:
        elapsed = [status.elapsed for status in pool.map(watch.run, ["a"] * 64)]
    assert elapsed == [999.0] * 64


@pytest.mark.parametrize(
    ("config", "inherited", "told"),
    [({}, None, None), ({}, "3", "3"), ({"engine": {"threads": 2}}, "3", "2")],
    ids=["by the model's size", "as the shell says", "as the config says"],
)
def test_a_worker_is_told_a_number_of_threads_only_where_someone_named_one(
    config: dict[str, object], inherited: str | None, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if inherited is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", inherited)
    assert launching.worker_environment(RunConfig.model_validate(config)).get("OMP_NUM_THREADS") == told
