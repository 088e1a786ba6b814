"""SynPO: self-boosting with synthetic preference data (arXiv 2410.06961, ICLR 2025), Algorithm 1.

Input: M_0, seeds (x*, y*), a scorer, T.

  G := SFT(M_0, keywords of x* with noise -> x*)                                       section 2.1, once
  for t = 1..T:
      y*_{t-1} ~ M_{t-1}(x*); keep rows where score(y*) - score(y*_{t-1}) > tau        section 2.2
      R_t := SFT(M_0, (x*, y*_{t-1}) -> y*)
      x ~ G(keyword lists); drop what is malformed, invalid, known or held out         section 2.1
      y_0 ~ M_0(x); y_{t-1} ~ M_{t-1}(x); y_w ~ R_t(x, y_{t-1})                        section 2.3
      keep (y_w over y_0) if score(y_w) - score(y_0) > tau and y_w is not repetitive
      for each beta: M_t := SimPO(M_0, all pairs so far, beta, gamma); keep the best on the seeds

Where we depart from the paper or fill a gap:
  1. The paper draws 10k of the kept pairs each iteration; we draw `pool.pairs_per_iteration`.
  2. How beta is chosen is said only as "on seed data": we take the highest mean score of M_t's answers to the seed prompts.
  3. Keyword lists for generation hold `keywords.noise` noise words, as those for training do; the paper takes all
     words from one paragraph. Set keywords.noise to 0 for training and generation without noise.
  4. `improver.drafts_per_seed` answers per seed feed the improver; the paper, with 18k seeds, samples one.
  5. The rejected side, the start of M_t and R_t, the pool and the improver are switches, for the ablations the paper's
     reviewers asked for. The defaults are the paper's.
  6. `simpo.sft_weight` adds token cross-entropy on the chosen answer (an option of SimPO's authors). The paper has none and
     neither has the schema's default, 0; the pocket config sets 5, and docs/log.md shows what a model so small does without.
"""

from synpo_lab.config import RunConfig
from synpo_lab.recipes.workshop import INITIAL, Workshop
from synpo_lab.run import Run


def run(config: RunConfig, run: Run) -> None:
    """Runs all iterations, or what is left of them."""
    lab = Workshop(config, run)
    lab.preflight()
    lab.evaluate(0)
    generator = lab.fit_generator()
    for t in range(1, config.iterations + 1):
        improver = lab.fit_improver(t) if config.improver.enabled else None
        prompts = lab.new_prompts(generator, t)
        initial = lab.respond(INITIAL, prompts, role="initial", iteration=t, stage="answer with M_0")  # y_0
        drafts = lab.respond(f"M_{t - 1}", prompts, role="draft", iteration=t, stage="draft")  # y_{t-1}
        improved = lab.improve(improver, prompts, drafts, t) if improver else drafts  # y_w
        lab.grade([*initial.values(), *drafts.values()], prompts, t)
        lab.pairs(prompts, improved, initial if config.pairing.rejected == "initial" else drafts, t)
        lab.optimise(t)
        lab.evaluate(t)
