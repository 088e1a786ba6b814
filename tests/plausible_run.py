"""A run as the pocket world would have made it, in half a second and without any model.

Real are: the tasks, the rubric's scores, the pairs, the filter, the record types and the store. Made up are: who
answers (pocket people whose habits get better from iteration to iteration) and the training curves.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path

from storage import RunStore
from storage.state import State, set_state
from synpo_lab.config import RunConfig, load
from synpo_lab.grid import chosen_told
from synpo_lab.home import open_home, open_store
from synpo_lab.keywords import content_words
from synpo_lab.pocket.answers import Habits, answer
from synpo_lab.pocket.rubric import grade
from synpo_lab.pocket.tasks import FAMILIES, parse, sample, write
from synpo_lab.records import Pair, PairLogp, Prompt, Response, Role, Score, Seed, TrainStep, content_id
from synpo_lab.stages.build_pairs import build_pairs
from synpo_lab.stages.evaluate import compare
from synpo_lab.stages.filter_pairs import filter_pairs

BETAS = (4.0, 10.0)
Answers = dict[str, Response]


def write_run(
    home: Path,
    run_id: str = "pocket-20260101-1200-aaaa",
    *,
    iterations: int = 4,
    done: int | None = None,
    prompts: int = 60,
    state: State = "finished",
    title: str = "SynPO on the pocket world",
    created_at: float = 1_767_268_800.0,
    stuck: int = 0,
) -> RunStore:
    """Write a run of `iterations` rounds of which `done` (default: all) are made, each with `prompts` prompts.

    The first `stuck` improved answers of each round say themselves four times over: a filter finds repetition there.
    """
    sizes = [f"iterations={iterations}", f"title={title}", f"prompts.per_iteration={prompts}"]
    config = load("pocket", [*sizes, "filter.min_gap=0.1"])
    info = {"recipe": "synpo", "title": title, "iterations": iterations, "created_at": created_at}
    run = open_store(open_home(home)).create_run(run_id, config.to_yaml(), info)
    writer = PocketPeople(run, config, random.Random(run_id), stuck)
    writer.write(iterations if done is None else done, prompts, created_at)
    set_state(run.folder, state)
    return run


class PocketPeople:
    """Writes what a run of SynPO would have written."""

    def __init__(self, run: RunStore, config: RunConfig, rng: random.Random, stuck: int) -> None:
        self.run, self.config, self.rng, self.stuck = run, config, rng, stuck
        self.totals: dict[str, float] = {}
        self.at = 0.0

    def write(self, iterations: int, prompts: int, created_at: float) -> None:
        self.at = created_at
        self._event("run", "started")
        self._seeds(24)
        evaluation = {content_id("prompt", text): text for text in self._texts("evaluation", 80)}
        held = [Prompt(0, key, text, [], None, "eval:pocket", "held-out", None) for key, text in evaluation.items()]
        self.run.append(held)
        self.initial = self._answers(evaluation, "eval", "M_0", 0, 0.55)
        self._evaluate(evaluation, 0, 0.55)
        self._curve("generator", "", 0, 30, start=4.0)
        for t in range(1, iterations + 1):
            self._iteration(t, prompts, evaluation)
        self._event("run", "finished")

    def _iteration(self, t: int, prompts: int, evaluation: dict[str, str]) -> None:
        quality = 0.55 + 0.3 * (1 - math.exp(-0.7 * t))
        self._curve("improver", "", t, 20, start=2.0)
        texts = self._prompts(t, prompts)
        initial = self._answers(texts, "initial", "M_0", t, 0.55)
        drafts = self._answers(texts, "draft", f"M_{t - 1}", t, 0.55 + 0.3 * (1 - math.exp(-0.7 * (t - 1))))
        improved = self._answers(texts, "improved", f"R_{t}", t, min(0.97, quality + 0.1), drafts)
        pairs = build_pairs(texts, improved, initial, self.totals, t)
        kept = filter_pairs(pairs, self.config.filter, at_most=self.config.pool.pairs_per_iteration, seed=t)
        self.run.append(kept)
        self.run.mark(f"iteration={t}/pairs", {"pairs": len(kept), "kept": sum(pair.kept for pair in kept)})
        for beta in BETAS:
            self._curve("policy", f"beta={beta:g}", t, 25, start=1.9 - beta / 20)
        self._validate(t, quality)
        self._looked(t)
        self._evaluate(evaluation, t, quality)

    def _seeds(self, n: int) -> None:
        tasks = [sample(self.rng, FAMILIES[i % len(FAMILIES)]) for i in range(n)]
        rows = {write(task, self.rng): answer(task, _habits(1.0), self.rng) for task in tasks}
        self.seeds = {content_id("prompt", prompt): prompt for prompt in rows}
        self.run.append(Seed(0, content_id("prompt", prompt), prompt, gold, "train") for prompt, gold in rows.items())

    def _texts(self, name: str, n: int) -> list[str]:
        rng = random.Random(f"{name} {self.run.run_id}")
        return list(dict.fromkeys(write(sample(rng, rng.choice(FAMILIES)), rng) for _ in range(n)))

    def _prompts(self, t: int, n: int) -> dict[str, str]:
        texts = self._texts(f"prompts {t}", n)
        kept = {content_id("prompt", text): text for text in texts}
        self.run.append(self._prompt(t, key, text, None) for key, text in kept.items())
        broken = [f"{text} and {text}" for text in texts[: n // 10]]
        self.run.append(self._prompt(t, content_id("broken", t, text), text, "invalid") for text in broken)
        self._stage("write prompts", t, n)
        return kept

    def _prompt(self, t: int, key: str, text: str, reason: str | None) -> Prompt:
        own = content_words(text)
        noise = self.rng.choice(["banjo", "ferry", "kale", "tulip", "norway", "golf"])
        words = [*self.rng.sample(own, min(2, len(own))), noise]
        self.rng.shuffle(words)
        return Prompt(t, key, text, words, noise, "generator", "dropped" if reason else "kept", reason)

    def _answers(
        self, texts: dict[str, str], role: Role, model: str, t: int, quality: float, drafts: Answers | None = None
    ) -> Answers:
        made = {}
        for prompt_id, text in texts.items():
            task = parse(text)
            assert task is not None, text
            draft = drafts[prompt_id].text if drafts else ""
            said = answer(task, _habits(quality), self.rng, draft=draft)
            if role == "improved" and len(made) < self.stuck:
                said = " ".join([said] * 4)
            key = content_id("response", prompt_id, role, model, t)
            sampling = '{"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 40, "seed": 7, "index": 0}'
            made[prompt_id] = Response(t, key, prompt_id, role, model, said, len(said.split()) + 1, "stop", sampling)
        self.run.append(made.values())
        self.run.append(self._scores(texts, made, t))
        self._stage({"initial": "answer with M_0", "eval": "answer pocket"}.get(role, role), t, len(made))
        return made

    def _scores(self, texts: dict[str, str], made: Answers, t: int) -> Iterator[Score]:
        for prompt_id, response in made.items():
            graded = grade(texts[prompt_id], response.text)
            self.totals[response.response_id] = graded["total"]
            for aspect, value in graded.items():
                yield Score(t, response.response_id, "rubric", aspect, value)

    def _curve(self, trainee: str, variant: str, t: int, steps: int, start: float) -> None:
        preference = trainee == "policy"
        for step in range(1, steps + 1):
            share = step / steps
            margin = 0.2 + 3 * share + self.rng.gauss(0, 0.15) if preference else None
            self.run.append([
                TrainStep(
                    iteration=t, trainee=trainee, variant=variant, step=step,  # type: ignore[arg-type]
                    loss=start * math.exp(-1.6 * share) + self.rng.gauss(0, 0.03) + 0.1,
                    lr=3e-4 * (1 - share), grad_norm=1.2,
                    reward_margin=margin, reward_accuracy=min(1.0, 0.6 + 0.4 * share) if preference else None,
                    logp_chosen=-0.45 - 0.1 * share if preference else None,
                    logp_rejected=-0.7 - 0.6 * share if preference else None,
                    tokens_per_s=15_000.0,
                )
            ])  # fmt: skip
        self._stage(f"train {trainee} {variant}".strip(), t, steps)

    def _validate(self, t: int, quality: float) -> None:
        initial = self._answers(self.seeds, "eval", "M_0", 0, 0.55)
        means = {}
        for beta in BETAS:
            made = self._answers(self.seeds, "eval", f"M_{t}-beta={beta:g}", t, quality - 0.03 * (beta < 5))
            results = list(compare(list(made.values()), initial, self.totals, suite="validation", iteration=t))
            self.run.append(results)
            means[beta] = sum(result.score_a for result in results) / len(results)
        best = max(means, key=lambda beta: means[beta])
        told = {f"{beta:g}": mean for beta, mean in means.items()}
        self.run.mark(f"iteration={t}/policy", {"beta": best, "validation": told, "pairs": 40})
        self._event("log", chosen_told(f"M_{t}", best, told))

    def _looked(self, t: int) -> None:
        """What M_0 and M_t think of the pool, and of the round's dropped pairs: M_t has learned most of it."""
        rng, beta, gamma = random.Random(f"eye {self.run.run_id}"), BETAS[-1], self.config.simpo.gamma
        pairs = sorted(self.run.read(Pair), key=lambda pair: pair.pair_id)
        for pair in (pair for pair in pairs if pair.kept or pair.iteration == t):
            chosen, rejected = -0.9 + rng.gauss(0, 0.2), -0.8 + rng.gauss(0, 0.2)
            learned = 0.35 * t * rng.random() if pair.kept else 0.1 * rng.gauss(0, 1)
            self.run.append([
                PairLogp(t, pair.pair_id, "M_0", chosen, rejected, beta, gamma),
                PairLogp(t, pair.pair_id, f"M_{t}", chosen + learned / 3, rejected - learned, beta, gamma),
            ])  # fmt: skip
        self._stage(f"look at pairs with M_{t}", t, len(pairs))

    def _evaluate(self, texts: dict[str, str], t: int, quality: float) -> None:
        made = self._answers(texts, "eval", f"M_{t}", t, quality) if t else self.initial
        self.run.append(compare(list(made.values()), self.initial, self.totals, suite="pocket", iteration=t))

    def _stage(self, stage: str, t: int, total: int) -> None:
        for done, message in ((0, "started"), (total // 2, ""), (total, "finished in 2.0 s")):
            self._event(stage, message, iteration=t, done=done, total=total)

    def _event(self, stage: str, message: str, **counts: int) -> None:
        self.at += 1.0
        self.run.event(stage, message, at=self.at, **counts)  # type: ignore[arg-type]


def _habits(quality: float) -> Habits:
    """Of someone who is mistaken, slips and is rude the less, the nearer `quality` is to 1."""
    fault = 1 - quality
    return Habits(misconception=fault, slip=fault, slip_without_knowledge=1.2 * fault, rude=fault / 3, untidy=fault / 4)
