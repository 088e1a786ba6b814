"""The recipes: on stand-in models for their logic, and once for real on a model and seeds that are not the pocket's."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.errors import DataError, EngineError, ModelError, TrainingError
from synpo_lab.home import open_store
from synpo_lab.recipes import keyword_supply, workshop
from synpo_lab.records import EvalResult, Pair, PairLogp, Prompt, Response, Score, Seed, TrainStep
from synpo_lab.run import Run, StopRequested

Start = Callable[..., Run]

SHORT = {"max_new_tokens": 24}
SMALL: dict[str, Any] = {
    "iterations": 2,
    "prompts": {"per_iteration": 48, "sampling": SHORT},
    "draft": SHORT,
    "improver": {"sampling": SHORT, "min_gap": -1.0},
    "scorer": {"name": "length"},
    "filter": {"min_gap": -1.0, "max_repetition": 1.0},
    "simpo": {"betas": [2, 10]},
    "evaluation": {"sampling": SHORT},
}


def hash_of(folder: str | Path) -> str:
    return hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def finished(quick: dict[str, str], start: Start) -> Run:
    return start(**SMALL, **quick)


def test_synpo_does_what_algorithm_1_says(finished: Run, quick: dict[str, str]) -> None:
    prompts = list(finished.read(Prompt))
    kept = [made for made in prompts if made.status == "kept"]
    pairs = list(finished.read(Pair))
    assert Counter(made.iteration for made in prompts) == {1: 48, 2: 48}
    assert kept
    assert len({made.text for made in kept}) == len(kept)
    assert not {made.text for made in kept} & {seed.prompt for seed in finished.read(Seed)}
    assert {pair.prompt_id for pair in pairs} == {made.prompt_id for made in kept}

    responses = {made.response_id: made for made in finished.read(Response)}
    for pair in pairs:
        chosen, rejected = responses[pair.chosen_id], responses[pair.rejected_id]
        assert (chosen.role, chosen.model) == ("improved", f"R_{pair.iteration}")
        assert (rejected.role, rejected.model) == ("initial", "M_0")  # the rejected side is always M_0's
    drafts = {made.model for made in responses.values() if made.role == "draft"}
    assert drafts == {"M_0", "M_1"}

    # R_t and M_t start from M_0 in every iteration, and the pool accumulates.
    for t in (1, 2):
        assert finished.marker(f"iteration={t}/R_{t}")["start"] == "M_0"  # type: ignore[index]
        policy = finished.marker(f"iteration={t}/policy")
        assert policy is not None
        assert policy["pairs"] == sum(pair.kept for pair in pairs if pair.iteration <= t)
        assert set(policy["validation"]) == {"2", "10"}
        assert finished.marker(f"iteration={t}/M_{t}-beta=2")["start"] == "M_0"  # type: ignore[index]
    weights = {name: hash_of(finished.model_folder(name)) for name in ("G", "R_1", "R_2", "M_1", "M_2")}
    assert len({hash_of(quick["policy"]), *weights.values()}) == 6
    assert {step.trainee for step in finished.read(TrainStep)} == {"generator", "improver", "policy"}
    assert not list(finished.model_folder("M_1").parent.glob("*beta*"))


def test_a_finished_run_started_again_makes_nothing_new(finished: Run, start: Start) -> None:
    kinds = (Prompt, Response, Score, Pair, EvalResult, TrainStep)
    before = {kind: sorted(map(repr, finished.read(kind))) for kind in kinds}
    again = start()
    assert {kind: sorted(map(repr, again.read(kind))) for kind in kinds} == before


def test_what_a_kill_left_of_a_grid_is_cleared_away_on_resume(finished: Run, start: Start) -> None:
    left = finished.model_folder("M_1-beta=2")
    left.mkdir()
    start()
    assert not left.exists()


def test_a_wrong_source_of_keywords_is_said_before_any_training(
    quick: dict[str, str], start: Start, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no file nowhere\.txt"):
        start("lost", **(SMALL | {"keywords": {"source": "nowhere.txt"}}), **quick)
    assert not list(open_store(tmp_path / "home").run("lost").read(TrainStep))


def test_the_source_of_keywords_is_read_once_for_all_iterations_and_never_by_a_resume(
    quick: dict[str, str], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "texts.txt"
    texts = [" ".join(f"{chr(97 + (i * 7 + j * 3) % 26)}{chr(97 + j)}word" for j in range(9)) for i in range(40)]
    source.write_text("\n".join(texts), encoding="utf-8")
    reads: list[str] = []
    plain = keyword_supply.paragraphs

    def counted(source: str, *rest: Any) -> Any:
        reads.append(source)
        return plain(source, *rest)

    monkeypatch.setattr(keyword_supply, "paragraphs", counted)
    with pytest.raises(TrainingError):  # no pair is kept: the first iteration ends half way
        start(**(SMALL | {"keywords": {"source": str(source)}, "filter": {"min_gap": 1e9}}), **quick)
    source.unlink()
    with pytest.raises(TrainingError):
        start()
    assert reads == [str(source)]
    drawn = [json.loads((tmp_path / f"home/runs/r/markers/iteration=0/keywords-{t}.done").read_text()) for t in (1, 2)]
    assert [len(one["lists"]) for one in drawn] == [48, 48]
    assert drawn[0]["lists"] != drawn[1]["lists"]


def test_a_run_stopped_anywhere_and_resumed_ends_as_the_uninterrupted_one(
    finished: Run, start: Start, quick: dict[str, str]
) -> None:
    def outcome(run: Run) -> tuple[Any, ...]:
        return (
            sorted((p.prompt_id, p.status) for p in run.read(Prompt)),
            sorted((r.response_id, r.text) for r in run.read(Response)),
            sorted((p.pair_id, p.kept, p.gap) for p in run.read(Pair)),
            hash_of(run.model_folder("M_2")),
        )

    for attempt in range(40):
        asked = 0

        def stop(limit: int = 7 * (attempt + 1)) -> bool:
            nonlocal asked
            asked += 1
            return asked > limit

        try:
            begun = start("stopped", stop, **SMALL, **quick) if attempt == 0 else start("stopped", stop)
            break
        except StopRequested:
            continue
    assert attempt > 5
    assert outcome(begun) == outcome(finished)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"pairing": {"rejected": "draft"}}, lambda run: {r for _, r in sides(run)} == {("draft", "M_0"), ("draft", "M_1")}),
        ({"improver": {"enabled": False}}, lambda run: {c[0] for c, _ in sides(run)} == {"draft"}),
        ({"pool": {"mode": "replace"}}, lambda run: pool_size(run, 2) == sum(p.kept for p in run.read(Pair, 2))),
        ({"pool": {"pairs_per_iteration": 5}}, lambda run: [pool_size(run, t) for t in (1, 2)] == [5, 10]),
        ({"simpo": SMALL["simpo"] | {"start": "previous"}}, lambda run: run.marker("iteration=2/M_2-beta=2")["start"] == "M_1"),
        ({"improver": SMALL["improver"] | {"start": "previous"}}, lambda run: run.marker("iteration=2/R_2")["start"] == "M_1"),
        ({"keywords": {"noise": 0}}, lambda run: all(p.noise_keyword is None for p in run.read(Prompt))),
        ({"keywords": {"noise": 2, "per_prompt": 4}}, lambda run: all(len(p.keywords) == 4 for p in run.read(Prompt))),
        ({"simpo": SMALL["simpo"] | {"loss": "hinge"}}, lambda run: run.done("iteration=2/policy")),
    ],
    ids=["rejected", "no improver", "replace", "small pool", "start", "improver start", "no noise", "more noise", "hinge"],
)  # fmt: skip
def test_every_switch_changes_what_it_says(
    changes: dict[str, Any], check: Callable[[Run], bool], quick: dict[str, str], start: Start
) -> None:
    fast = SMALL | {"simpo": SMALL["simpo"] | {"betas": [2]}}
    if "simpo" in changes:
        changes = {"simpo": changes["simpo"] | {"betas": [2]}}
    assert check(start(**(fast | changes), **quick))


def sides(run: Run) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """(role, model) of the chosen and the rejected side of every pair."""
    made = {r.response_id: (r.role, r.model) for r in run.read(Response)}
    return {(made[pair.chosen_id], made[pair.rejected_id]) for pair in run.read(Pair)}


def pool_size(run: Run, t: int) -> int:
    marker = run.marker(f"iteration={t}/policy")
    assert marker is not None
    return int(marker["pairs"])


@pytest.mark.parametrize(
    ("recipe", "role"), [("seed-sft", None), ("seed-simpo", "initial"), ("sampling-ranking", "candidate")]
)
def test_the_baselines_run_on_the_same_model_and_seeds(
    recipe: str, role: str | None, quick: dict[str, str], start: Start
) -> None:
    run = start(**(SMALL | {"recipe": recipe, "iterations": 1, "validation": {"share": 0.25}}), **quick)
    assert (run.model_folder("M_1") / "model.safetensors").is_file()
    assert role is None or {rejected[0] for _, rejected in sides(run)} == {role}
    held = {seed.prompt for seed in run.read(Seed) if seed.split == "validation"}
    assert len(held) == 11
    assert not held & {pair.prompt for pair in run.read(Pair)}


def seen(run: Run, t: int) -> dict[str, set[str]]:
    """Pair ids looked at in an iteration, by model."""
    found: dict[str, set[str]] = {}
    for record in run.read(PairLogp, t):
        found.setdefault(record.model, set()).add(record.pair_id)
    return found


def test_the_pool_is_looked_at_with_m0_and_with_each_policy(finished: Run) -> None:
    pairs = list(finished.read(Pair))
    for t in (1, 2):
        pool = {pair.pair_id for pair in pairs if pair.kept and pair.iteration <= t}
        dropped = {pair.pair_id for pair in pairs if not pair.kept and pair.iteration == t}
        assert seen(finished, t) == {"M_0": pool | dropped, f"M_{t}": pool | dropped}
        policy = finished.marker(f"iteration={t}/policy")
        assert policy is not None
        assert {(x.beta, x.gamma) for x in finished.read(PairLogp, t)} == {(policy["beta"], 1.6)}
    first, second = ({x.pair_id: x for x in finished.read(PairLogp, t) if x.model == "M_0"} for t in (1, 2))
    assert {k: (v.logp_chosen, v.logp_rejected) for k, v in first.items() if k in second} == {
        k: (second[k].logp_chosen, second[k].logp_rejected) for k in first if k in second
    }


def test_at_most_so_many_pairs_are_looked_at_and_m0_reads_none_twice(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, str]] = []
    plain = workshop.open_engine.mean_logps

    def counted(self: Any, rows: Any, **more: Any) -> Any:
        rows = list(rows)
        read.extend((self.name, answer) for _, answer in rows)
        return plain(self, rows, **more)

    monkeypatch.setattr(workshop.open_engine, "mean_logps", counted)
    run = start(**(SMALL | {"filter": {"min_gap": 0.0}, "eye": {"pairs": 7, "dropped": 3}}), **quick)
    kept = {pair.pair_id for pair in run.read(Pair) if pair.kept}
    for t in (1, 2):
        looked = seen(run, t)
        assert {model: len(ids) for model, ids in looked.items()} == {"M_0": 10, f"M_{t}": 10}
        assert len(looked["M_0"] & kept) == 7
    by_m0 = {record.pair_id for record in run.read(PairLogp) if record.model == "M_0"}
    assert len([name for name, _ in read if name == "M_0"]) == 2 * len(by_m0)


def test_nothing_is_looked_at_when_the_config_says_so(quick: dict[str, str], start: Start) -> None:
    assert not list(start(**(SMALL | {"eye": {"pairs": 0}}), **quick).read(PairLogp))


@pytest.mark.parametrize(
    "error",
    [
        EngineError("this server gives no log-probs of a given text", hint="use another engine"),
        ModelError("the adapter is of a kind that is not served", hint="merge it"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=["no log-probs", "a model", "memory"],
)
def test_an_engine_without_log_probs_costs_a_warning_and_no_run(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: Any, rows: Any, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(workshop.open_engine, "mean_logps", refuse)
    run = start(**SMALL, **quick)
    assert run.done("iteration=2/policy")
    assert not list(run.read(PairLogp))


def test_a_fault_of_the_code_is_no_warning(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, rows: Any, **more: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(workshop.open_engine, "mean_logps", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        start(**SMALL, **quick)


def test_both_sides_of_all_pairs_are_asked_for_at_once(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that loads a model for it loads one."""
    calls: list[str] = []
    plain = workshop.open_engine.mean_logps

    def counted(self: Any, rows: Any, **more: Any) -> Any:
        calls.append(self.name)
        return plain(self, rows, **more)

    monkeypatch.setattr(workshop.open_engine, "mean_logps", counted)
    start(**SMALL, **quick)
    assert calls == ["M_0", "M_1", "M_0", "M_2"]


def test_a_threshold_that_keeps_nothing_says_so_and_loses_nothing(quick: dict[str, str], start: Start) -> None:
    with pytest.raises(TrainingError, match="keeps no pair") as caught:
        start("strict", **(SMALL | {"filter": {"min_gap": 5.0}}), **quick)
    assert "filter.min_gap" in caught.value.hint


def test_no_gold_answer_better_than_the_model_says_so(quick: dict[str, str], start: Start) -> None:
    with pytest.raises(DataError, match="no gold answer beats"):
        start("proud", **(SMALL | {"improver": {"min_gap": 5.0}}), **quick)


@pytest.mark.slow
def test_synpo_runs_for_real_on_any_model_folder_and_any_seeds(sums: dict[str, str], start: Start) -> None:
    sft = {"learning_rate": 1e-2, "epochs": 20, "batch_size": 16, "max_length": 512}
    longer = {"max_new_tokens": 40}
    run = start(
        **SMALL
        | {
            "prompts": {"per_iteration": 32, "target": "prompt", "sampling": longer, "train": sft},
            "improver": {"train": sft | {"epochs": 1}, "min_gap": -1.0, "sampling": longer},
            "simpo": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 16, "betas": [2, 10], "max_length": 512},
        },
        **sums,
    )
    kept = [made for made in run.read(Prompt) if made.status == "kept"]
    assert len({made.text for made in kept}) == len(kept) > 0
    assert {pair.prompt_id for pair in run.read(Pair)} == {made.prompt_id for made in kept}
    weights = [hash_of(run.model_folder(name)) for name in ("G", "R_1", "R_2", "M_1", "M_2")]
    assert len({hash_of(sums["policy"]), *weights}) == 6
    policy_steps = [step for step in run.read(TrainStep) if step.trainee == "policy"]
    assert {step.variant for step in policy_steps} == {"beta=2", "beta=10"}
    assert all(step.logp_chosen is not None and step.reward_margin is not None for step in policy_steps)
    looked = list(run.read(PairLogp))
    assert {record.model for record in looked} == {"M_0", "M_1", "M_2"}
    assert all(record.logp_chosen < 0 and record.logp_rejected < 0 for record in looked)


def test_an_evaluation_prompt_that_g_writes_is_dropped_and_never_trained_on(
    finished: Run, quick: dict[str, str], start: Start, tmp_path: Path
) -> None:
    written = [made.text for made in finished.read(Prompt) if made.status == "kept"]
    suite = tmp_path / "suite.jsonl"
    suite.write_text("\n".join(f'{{"prompt": "{text}"}}' for text in written[:5]), encoding="utf-8")
    run = start("held", **(SMALL | {"evaluation": SMALL["evaluation"] | {"suite": str(suite)}}), **quick)
    dropped = {made.text for made in run.read(Prompt) if made.drop_reason == "evaluation"}
    assert set(written[:5]) & dropped
    assert not {pair.prompt for pair in run.read(Pair)} & set(written[:5])
    assert {result.suite for result in run.read(EvalResult)} == {"validation", "suite"}
    assert len([r for r in run.read(EvalResult, 1) if r.suite == "suite"]) == 5
