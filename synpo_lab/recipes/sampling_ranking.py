"""Sampling-Ranking, SynPO's baseline (arXiv 2410.06961, section 3.1): best over worst of five samples, same scorer.

  G as in SynPO
  for t = 1..T:
      x ~ G; y^1..y^n ~ M_{t-1}(x); keep (best over worst) if the gap is > tau and best is not repetitive
      M_t := SimPO(start, all pairs so far), beta chosen as in SynPO

The paper does not say whether M_t starts from M_0 or M_{t-1}, nor whether pairs accumulate: both follow the config.
"""

from synpo_lab.config import RunConfig
from synpo_lab.recipes.workshop import Workshop
from synpo_lab.run import Run
from synpo_lab.stages.answer import Question
from synpo_lab.stages.build_pairs import best_and_worst


def run(config: RunConfig, run: Run) -> None:
    """Runs all iterations, or what is left of them."""
    lab = Workshop(config, run)
    lab.preflight()
    lab.evaluate(0)
    generator = lab.fit_generator()
    for t in range(1, config.iterations + 1):
        prompts = lab.new_prompts(generator, t)
        questions = [
            Question(prompt_id, text, i) for prompt_id, text in prompts.items() for i in range(config.samples.n)
        ]
        candidates = lab.answers(
            f"M_{t - 1}", questions, role="candidate", iteration=t, sampling=config.draft, stage="sample"
        )
        lab.grade(candidates, prompts, t)
        best, worst = best_and_worst(candidates, lab.totals)
        lab.pairs(prompts, best, worst, t)
        lab.optimise(t)
        lab.evaluate(t)
