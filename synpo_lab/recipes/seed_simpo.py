"""Baseline: SimPO on seed pairs, gold over M_0's answer (SynPO, arXiv 2410.06961, table 7)."""

from synpo_lab.config import RunConfig
from synpo_lab.recipes.workshop import INITIAL, Workshop
from synpo_lab.run import Run


def run(config: RunConfig, run: Run) -> None:
    lab = Workshop(config, run)
    lab.preflight()
    lab.evaluate(0)
    prompts = {seed.seed_id: seed.prompt for seed in lab.training_seeds}
    answers = lab.respond(INITIAL, prompts, role="initial", iteration=1, stage="answer seeds with M_0")
    lab.pairs(prompts, lab.gold_answers(), answers, 1)
    lab.optimise(1)
    lab.evaluate(1)
