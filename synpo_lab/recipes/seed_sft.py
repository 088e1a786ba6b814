"""Baseline: supervised fine-tuning of M_0 on the seeds alone (SynPO, arXiv 2410.06961, table 7)."""

from synpo_lab.config import RunConfig
from synpo_lab.recipes.workshop import Workshop
from synpo_lab.run import Run


def run(config: RunConfig, run: Run) -> None:
    lab = Workshop(config, run)
    lab.preflight()
    lab.evaluate(0)
    rows = [(seed.prompt, seed.gold) for seed in lab.training_seeds]
    lab.fit("M_1", rows, config.sft, trainee="policy", iteration=1)
    lab.evaluate(1)
