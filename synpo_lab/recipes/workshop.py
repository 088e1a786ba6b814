"""What recipes share: a method per stage, which saves what the stage makes and skips what an earlier attempt finished.

A recipe says *what* is done and in which order. Here is *how* a stage meets engines, the store and a resume.
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from synpo_lab.config import RunConfig, SamplingConfig, SFTConfig
from synpo_lab.engines import KeptEngine, open_engine
from synpo_lab.engines.base import Engine
from synpo_lab.errors import DataError, LabError, TrainingError
from synpo_lab.grid import chosen_told
from synpo_lab.models import out_of_memory, with_chat_template
from synpo_lab.pocket import resolve_policy
from synpo_lab.recipes.beta_grid import BetaGrid
from synpo_lab.recipes.keyword_supply import KeywordSupply
from synpo_lab.recipes.preflight import check_chat, check_gpus, context_of, within
from synpo_lab.records import (
    EvalResult,
    Note,
    Pair,
    PairLogp,
    Prompt,
    Response,
    Role,
    Score,
    Seed,
    Trainee,
    TrainStep,
    content_id,
)
from synpo_lab.run import Run, tracked
from synpo_lab.scorers import open_scorer
from synpo_lab.scorers.base import inspect, is_ranker, release, watch
from synpo_lab.seeds import load_prompts, load_seeds
from synpo_lab.stages.answer import Question, answer, response_id
from synpo_lab.stages.build_pairs import build_pairs
from synpo_lab.stages.evaluate import compare
from synpo_lab.stages.filter_pairs import filter_pairs
from synpo_lab.stages.generate_prompts import Sieve, generator_rows, prompt_records, prompt_requests
from synpo_lab.stages.improve import improver_rows
from synpo_lab.stages.look import draw, look
from synpo_lab.stages.score import is_last, score
from synpo_lab.templates import TEMPLATES
from synpo_lab.training.sft import train_sft
from synpo_lab.training.trainer import optimizer_steps

Item = TypeVar("Item")

INITIAL = "M_0"
VALIDATION = "validation"  # the suite that chooses beta: seeds, not held-out prompts
CHUNK = 2048  # prompts or answers between two saves: what a resume repeats at most

Answers = dict[str, Response]  # by prompt id
Texts = Mapping[str, str]  # prompt text by prompt id


class Workshop:
    """Runs stages for one run."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        self.config, self.run = config, run
        self._kept = KeptEngine(self._open, config.largest_lora)
        self.templates = TEMPLATES[config.templates]
        self.scorer = open_scorer(config.scorer)
        self.policy: str | Path = resolve_policy(config.policy)
        if config.chat_template:
            self.policy = with_chat_template(self.policy, config.chat_template, run.model_folder(INITIAL))
        self.evaluation = _by_id(load_prompts(config.evaluation.suite)[: config.evaluation.limit])
        self.seeds = split_seeds(
            load_seeds(config.seeds, config.seeds_limit), config.validation.share, run.seed_for("split")
        )
        self.run.save(self.seeds)
        self.keywords = KeywordSupply(config, run, self.training_seeds)
        self.suite = suite_name(config.evaluation.suite)
        self.run.save(_held_out(self.evaluation, self.suite))
        self.totals: dict[str, float] = {}  # by response id
        self.graded: set[str] = set()  # response ids, those included whose answer got no total
        for known in run.read(Score):
            self._noted(known)
        self._given_up: set[str] = set()  # ids of requests that failed in this attempt; a resume asks them again
        self.anchors: dict[str, str] = {}  # prompt -> the answer that a ranker compares others with

    def preflight(self) -> None:
        """Before the first stage: raises what a stage hours away would raise, where a look at the config files shows it."""
        check_gpus(self.config)
        context = context_of(self.policy, trust_remote_code=self.config.trust_remote_code)
        if context is not None and (fitted := within(self.config, context)) != self.config:
            self.config = fitted
            self.run.log(f"the policy reads {context:,} tokens: longer rows of a training are cut to that", "warning")
        seed, *_ = self.seeds
        check_chat(self.policy, (seed.prompt, seed.gold), trust_remote_code=self.config.trust_remote_code)
        inspect(self.scorer)

    @property
    def training_seeds(self) -> list[Seed]:
        return [seed for seed in self.seeds if seed.split == "train"]

    @property
    def validation_seeds(self) -> list[Seed]:
        """The seeds that choose beta: those set apart, or all when none are; no more than the config's limit."""
        apart = [seed for seed in self.seeds if seed.split == "validation"] or self.seeds
        limit = self.config.validation.limit
        if limit is None or limit >= len(apart):
            return apart
        return random.Random(self.run.seed_for("validation")).sample(apart, limit)

    # Models

    def weights(self, name: str) -> str | Path:
        return self.policy if name == INITIAL else self.run.model_folder(name)

    @contextmanager
    def engine(self, name: str) -> Iterator[Engine]:
        """The model called `name`, loaded. It stays so for the next model of the same base, until training or scoring."""
        try:
            yield self._kept.get(name, self.weights(name))
        except BaseException:
            self._kept.close()
            raise

    def _open(self, name: str, model: str | Path, adapters: int) -> Engine:
        return open_engine(
            name,
            model,
            self.config.engine,
            trust_remote_code=self.config.trust_remote_code,
            initial=name == INITIAL,
            adapters=adapters,
        )

    def fit(
        self,
        name: str,
        rows: Sequence[tuple[str, str]],
        config: SFTConfig,
        *,
        trainee: Trainee,
        iteration: int,
        start: str = INITIAL,
    ) -> str:
        """SFT of the model called `start` on (prompt, answer) rows; the result is called `name`."""
        training = partial(train_sft, self.weights(start), rows, config)
        self.train(
            training, name, iteration, trainee, optimizer_steps(len(rows), config), {"rows": len(rows), "start": start}
        )
        return name

    def train(
        self,
        training: Callable[..., Path],
        name: str,
        iteration: int,
        trainee: Trainee,
        steps: int,
        payload: dict[str, Any],
        variant: str = "",
        checkpoints: str = "",
    ) -> None:
        """Runs `training` into the model called `name`, its steps saved and counted. Nothing when that is done already."""
        step = f"iteration={iteration}/{name}"
        if self.run.done(step):
            return
        self._kept.close()  # the training needs its memory
        with self.run.stage(f"train {trainee} {variant}".strip(), iteration, total=steps) as progress:
            steps_log = _StepLog(
                lambda logged: self.run.save(_train_step(x, iteration, trainee, variant) for x in logged)
            )

            def log(logged: dict[str, Any]) -> None:
                steps_log.add(logged)
                progress.advance(logged["step"] - progress.done)

            try:
                training(
                    self.run.model_folder(name),
                    seed=self.run.seed_for("training", trainee, iteration),
                    log=log,
                    note=partial(self.run.log, level="warning"),
                    should_stop=self.run.stop_requested,
                    checkpoints=self.run.model_folder(checkpoints or f".{name}.checkpoints"),
                    device=self.config.engine.device,
                    trust_remote_code=self.config.trust_remote_code,
                    **self.config.training.model_dump(),
                )
            finally:
                steps_log.flush()
        self.run.mark(step, payload)

    # Answers and scores

    def answers(
        self,
        model: str,
        questions: Sequence[Question],
        *,
        role: Role,
        iteration: int,
        sampling: SamplingConfig,
        stage: str,
    ) -> list[Response]:
        """One response per question, those of an earlier attempt included, sorted by id."""
        seed = self.run.seed_for("answers")
        wanted = {response_id(question, role, model, sampling, seed) for question in questions}
        done = wanted & (self.run.ids(Response, iteration) | self._given_up)
        if done != wanted:
            with (
                self.run.stage(stage, iteration, total=len(wanted), done=len(done)) as progress,
                self.engine(model) as engine,
            ):
                made = answer(
                    engine, questions, role=role, iteration=iteration, sampling=sampling, seed=seed, done=done,
                    check=progress.check_stop,
                )  # fmt: skip
                self.run.save(tracked(self._told_of_failures(made, stage), progress))
        found = (response for response in self.run.read(Response, iteration) if response.response_id in wanted)
        answered = (response for response in found if response.finish_reason != "error")
        return sorted(answered, key=lambda response: response.response_id)

    def _told_of_failures(self, responses: Iterable[Response], stage: str) -> Iterator[Response]:
        """The responses; once all are there, a warning in the log if some hold no answer.

        What failed for a reason that may pass is told and not kept.
        """
        failed, why = 0, ""
        for response in responses:
            told = json.loads(response.sampling) if response.finish_reason == "error" else {}
            failed, why = failed + bool(told), why or told.get("error", "")
            if told.get("again"):
                self._given_up.add(response.response_id)
            else:
                yield response
        if failed:
            self.run.log(f"{stage}: {failed} requests got no answer and are left out; the first: {why}", "warning")

    def respond(self, model: str, prompts: Texts, *, role: Role, iteration: int, stage: str) -> Answers:
        """One answer to each prompt, sampled as drafts are."""
        questions = [Question(prompt_id, text) for prompt_id, text in prompts.items()]
        made = self.answers(model, questions, role=role, iteration=iteration, sampling=self.config.draft, stage=stage)
        return by_prompt(made)

    def improve(self, improver: str, prompts: Texts, drafts: Answers, iteration: int) -> Answers:
        """R_t's rewrites y_w ~ R_t(. | x, y_{t-1})."""
        questions = [
            Question(prompt_id, self.templates.ask_to_improve(text, drafts[prompt_id].text))
            for prompt_id, text in prompts.items()
            if prompt_id in drafts
        ]
        made = self.answers(
            improver,
            questions,
            role="improved",
            iteration=iteration,
            sampling=self.config.improver.sampling,
            stage="improve",
        )
        return by_prompt(made)

    def grade(self, responses: Iterable[Response], prompts: Texts, iteration: int) -> None:
        """Scores the responses that were not scored yet; `self.totals` then knows all that can be scored."""
        listed = list(responses)
        if is_ranker(self.scorer):
            self._add_anchors(listed, prompts)
        todo = [response for response in listed if response.response_id not in self.graded]
        if not todo:
            return
        self._kept.close()  # a scorer may need its memory
        with self.run.stage("score", iteration, total=len(todo)) as progress:
            watch(self.scorer, progress.check_stop)
            try:
                for chunk in _chunks(todo):
                    made = score(self.scorer, chunk, prompts, self.anchors)
                    self.run.save(tracked(map(self._noted, made), progress, count=is_last))
            finally:
                release(self.scorer)
        unscored = sum(response.response_id not in self.totals for response in todo)
        if unscored:
            self.run.log(
                f"iteration {iteration}: {unscored} of {len(todo)} answers got no score and are left out", "warning"
            )

    def _noted(self, known: Score) -> Score:
        if is_last(known):
            self.graded.add(known.response_id)
        if known.aspect == "total":
            self.totals[known.response_id] = known.value
        return known

    def _add_anchors(self, responses: Sequence[Response], prompts: Texts) -> None:
        """What a ranker compares with: a seed's gold answer, else what the pairs reject, else M_0's, else the first given."""
        for seed in self.seeds:
            self.anchors.setdefault(seed.prompt, seed.gold)
        rejected = self.config.pairing.rejected
        own = sorted(responses, key=lambda made: (made.role != rejected, made.model != INITIAL, made.response_id))
        for response in own:
            self.anchors.setdefault(prompts[response.prompt_id], response.text)

    # The prompt generator G

    def fit_generator(self) -> str:
        """G := SFT(M_0, keywords -> prompt). Once per run."""
        self.keywords.lists(1)  # a wrong keywords.source is said now, not after hours of training
        rows = generator_rows(
            self.training_seeds,
            self.config.keywords,
            self.config.prompts.target,
            self.templates,
            self.run.seed_for("generator rows"),
        )
        return self.fit("G", rows, self.config.prompts.train, trainee="generator", iteration=0)

    def new_prompts(self, generator: str, iteration: int) -> dict[str, str]:
        """G's prompts of this iteration that pass the sieve: text by id."""
        step = f"iteration={iteration}/prompts"
        if not self.run.done(step):
            self._write_prompts(generator, iteration)
            self.run.mark(step)
        kept = {made.prompt_id: made.text for made in self.run.read(Prompt, iteration) if made.status == "kept"}
        if not kept:
            raise DataError(
                f"iteration {iteration}: none of {self.config.prompts.per_iteration} synthetic prompts is usable",
                hint="their drop reasons are on the Prompts page; train G longer or give more seeds",
            )
        return kept

    def _write_prompts(self, generator: str, iteration: int) -> None:
        lists = self.keywords.lists(iteration)
        before = list(self.run.read(Prompt))
        finished = {tuple(made.keywords) for made in before if made.iteration == iteration}
        todo = [words for words in lists if words.words not in finished]
        sieve = Sieve(
            self.config.prompts.validator,
            held_out=self.evaluation.values(),
            seeds=(seed.prompt for seed in self.seeds),
            kept=(made.text for made in before if made.status == "kept"),
        )
        seed = self.run.seed_for("prompts", iteration)
        with (
            self.run.stage("write prompts", iteration, total=len(lists), done=len(lists) - len(todo)) as progress,
            self.engine(generator) as engine,
        ):
            for chunk in _chunks(todo):
                requests = prompt_requests(chunk, self.templates)
                made = engine.generate(requests, self.config.prompts.sampling, seed=seed, check=progress.check_stop)
                written = {completion.key: completion for completion in tracked(made, progress)}
                in_order = [
                    written[request.key] for request in requests
                ]  # so that who came first never depends on speed
                self.run.save(prompt_records(chunk, in_order, self.templates, sieve, iteration))

    # The response improver R_t

    def fit_improver(self, iteration: int) -> str:
        """R_t := SFT(start, (x*, y*_{t-1}) -> y*) where gold beats the model's answer by more than min_gap."""
        config, previous = self.config.improver, f"M_{iteration - 1}"
        seeds = self.training_seeds
        texts = {seed.seed_id: seed.prompt for seed in seeds}
        questions = [Question(seed.seed_id, seed.prompt, i) for seed in seeds for i in range(config.drafts_per_seed)]
        drafts = self.answers(
            previous, questions, role="draft", iteration=iteration, sampling=self.config.draft, stage="draft seeds"
        )
        gold = self.gold_answers()
        self.grade([*drafts, *gold.values()], texts, iteration)
        gold_scores = {key: self.totals[one.response_id] for key, one in gold.items() if one.response_id in self.totals}
        rows = improver_rows(seeds, drafts, self.totals, gold_scores, self.templates, config.min_gap)
        if not rows:
            raise DataError(
                f"iteration {iteration}: no gold answer beats the model's by more than {config.min_gap}",
                hint="lower improver.min_gap, or bring better gold answers",
            )
        start = INITIAL if config.start == "initial" else previous
        return self.fit(f"R_{iteration}", rows, config.train, trainee="improver", iteration=iteration, start=start)

    def gold_answers(self) -> Answers:
        """The training seeds' gold answers as responses, by seed id."""
        gold = [
            Response(0, content_id("gold", s.seed_id), s.seed_id, "gold", "gold", s.gold, 0, "given", "{}")
            for s in self.training_seeds
        ]
        self.run.save(gold)
        return by_prompt(gold)

    # Pairs and preference optimisation

    def pairs(self, prompts: Texts, chosen: Answers, rejected: Answers, iteration: int) -> list[Pair]:
        """All pairs of the iteration with the filter's decision; answers are scored first."""
        step = f"iteration={iteration}/pairs"
        if not self.run.done(step):
            self.grade([*chosen.values(), *rejected.values()], prompts, iteration)
            decided = filter_pairs(
                build_pairs(prompts, chosen, rejected, self.totals, iteration),
                self.config.filter,
                at_most=self.config.pool.pairs_per_iteration,
                seed=self.run.seed_for("pool", iteration),
                notes=self.run.notes(Note),
            )
            self.run.save(decided)
            self.run.mark(step, {"pairs": len(decided), "kept": sum(pair.kept for pair in decided)})
        return list(self.run.read(Pair, iteration))

    def pool(self, iteration: int) -> list[Pair]:
        """The kept pairs M_t is trained on: all so far, or this iteration's, sorted by id."""
        only = iteration if self.config.pool.mode == "replace" else None
        kept = [pair for pair in self.run.read(Pair, only) if pair.kept and pair.iteration <= iteration]
        if not kept:
            raise TrainingError(
                f"iteration {iteration}: the filter keeps no pair (filter.min_gap = {self.config.filter.min_gap})",
                hint="lower filter.min_gap; the Filter page shows what each value keeps",
            )
        return sorted(kept, key=lambda pair: pair.pair_id)

    def optimise(self, iteration: int) -> str:
        """M_t by preference optimisation on the pool: one training per beta, the best on the validation seeds is kept."""
        name, step = f"M_{iteration}", f"iteration={iteration}/policy"
        grid = BetaGrid(self, iteration)
        if not self.run.done(step):
            chosen = grid.choose(self.pool(iteration))
            self.run.mark(step, chosen)
            beta, scores = chosen["beta"], chosen["validation"]
            self.run.log(chosen_told(name, beta, scores))
        grid.clear()
        self.look(iteration)
        return name

    # The trainer's eye

    def look(self, iteration: int) -> None:
        """Mean log-probs of pairs under M_0 and M_t. What was computed before serves again.

        An engine that cannot give them, for lack of memory too, costs the run a warning, no more.
        """
        if not self.config.eye.pairs:
            return
        try:
            pairs = self._pairs_to_look_at(iteration)
            for model in (INITIAL, f"M_{iteration}"):
                self._look_with(model, pairs, iteration)
        except (LabError, RuntimeError, MemoryError) as error:
            if not isinstance(error, LabError) and not out_of_memory(error):
                raise
            self.run.log(f"iteration {iteration}: no log-probs of pairs: {error}", "warning")

    def _pairs_to_look_at(self, iteration: int) -> list[Pair]:
        config, seed = self.config.eye, self.run.seed_for("eye")
        dropped = (pair for pair in self.run.read(Pair, iteration) if not pair.kept)
        return draw(self.pool(iteration), config.pairs, seed) + draw(dropped, config.dropped, seed)

    def _look_with(self, model: str, pairs: Sequence[Pair], iteration: int) -> None:
        marker = self.run.marker(f"iteration={iteration}/policy") or {}
        training = {"beta": marker["beta"], "gamma": self.config.simpo.gamma}
        earlier = {seen.pair_id: seen for seen in self.run.read(PairLogp) if seen.model == model}
        known = [earlier[pair.pair_id] for pair in pairs if pair.pair_id in earlier]
        self.run.save(replace(seen, iteration=iteration, **training) for seen in known)
        todo = [pair for pair in pairs if pair.pair_id not in earlier]
        if not todo:
            return
        with (
            self.run.stage(f"look at pairs with {model}", iteration, total=len(pairs), done=len(known)) as progress,
            self.engine(model) as engine,
        ):
            self.run.save(tracked(look(engine, todo, iteration, **training, check=progress.check_stop), progress))

    # Evaluation

    def validate(self, model: str, iteration: int) -> list[EvalResult]:
        """The comparison with M_0 on the validation seeds, saved as suite "validation"."""
        texts = {seed.seed_id: seed.prompt for seed in self.validation_seeds}
        results = self._compare(model, texts, VALIDATION, iteration, self.config.validation.samples)
        if not results:
            raise DataError(
                f"{model} and M_0 answered no validation seed", hint="the run's log says why; mend it and resume"
            )
        return results

    def evaluate(self, iteration: int) -> None:
        """M_t against M_0 on the held-out prompts."""
        if self.evaluation:
            self._compare(f"M_{iteration}", self.evaluation, self.suite, iteration, 1)

    def _compare(self, model: str, prompts: Texts, suite: str, iteration: int, samples: int) -> list[EvalResult]:
        questions = [Question(prompt_id, text, i) for prompt_id, text in prompts.items() for i in range(samples)]
        sampling = self.config.evaluation.sampling
        initial = self.answers(
            INITIAL, questions[::samples], role="eval", iteration=0, sampling=sampling, stage=f"answer {suite} with M_0"
        )
        made = self.answers(
            model, questions, role="eval", iteration=iteration, sampling=sampling, stage=f"answer {suite}"
        )
        self.grade(initial, prompts, 0)
        self.grade(made, prompts, iteration)
        results = list(compare(made, by_prompt(initial), self.totals, suite=suite, iteration=iteration))
        self.run.save(results)
        if len(results) < len(questions):
            self.run.log(
                f"{suite}: {len(results)} of {len(questions)} comparisons of {model} with M_0 were possible", "warning"
            )
        return results


def suite_name(source: str) -> str:
    """What the evaluation is called in the tables: a file goes by its name, told apart from the seeds' "validation"."""
    name = Path(source).stem
    return f"{name} (held out)" if name == VALIDATION else name


def split_seeds(rows: Sequence[tuple[str, str]], share: float, seed: int) -> list[Seed]:
    """Seeds in their order, a random `share` of them marked for validation."""
    held = set(random.Random(seed).sample(range(len(rows)), round(share * len(rows))))
    return [
        Seed(0, content_id("prompt", prompt), prompt, gold, "validation" if place in held else "train")
        for place, (prompt, gold) in enumerate(rows)
    ]


def by_prompt(responses: Iterable[Response]) -> Answers:
    return {response.prompt_id: response for response in responses}


def _by_id(texts: Iterable[str]) -> dict[str, str]:
    return {content_id("prompt", text): text for text in texts}


def _held_out(prompts: Texts, suite: str) -> Iterator[Prompt]:
    for prompt_id, text in prompts.items():
        yield Prompt(0, prompt_id, text, [], None, f"eval:{suite}", "held-out", None)


class _StepLog:
    """Saves logged steps once a second: a part for every step would be more files than words."""

    def __init__(self, save: Callable[[list[dict[str, Any]]], object]) -> None:
        self._save, self._waiting, self._saved = save, list[dict[str, Any]](), time.monotonic()

    def add(self, logged: dict[str, Any]) -> None:
        self._waiting.append(logged)
        if time.monotonic() - self._saved >= 1:
            self.flush()

    def flush(self) -> None:
        self._save(self._waiting)
        self._waiting, self._saved = [], time.monotonic()


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def _train_step(logged: dict[str, Any], iteration: int, trainee: Trainee, variant: str) -> TrainStep:
    """SFT logs no rewards: those fields stay None."""
    names = [field.name for field in fields(TrainStep) if field.name not in ("iteration", "trainee", "variant")]
    values: dict[str, Any] = {name: logged.get(name) for name in names}
    return TrainStep(iteration=iteration, trainee=trainee, variant=variant, **values)
