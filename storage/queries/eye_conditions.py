"""Named conditions on how the trained policy, and others, judge a pair: what `PairQuery.eye` can ask for.

Each is a condition over a row of `pairs` in which $run_id is bound, and $policy where a policy is named. A number or a
quadrant of the trainer's eye and of the disagreement board opens its rows by its name.
"""

from itertools import combinations, product

# What each policy M_t thinks of a pair beside what M_0 does, both with the beta of M_t's training:
# reward = beta x nats per token, margin = reward(chosen) - reward(rejected) (SimPO, arXiv 2405.14734, eq. 4).
SEEN = """SELECT seen.iteration AS policy, seen.pair_id, seen.beta, seen.gamma,
    seen.logp_chosen, seen.logp_rejected, before.logp_chosen AS logp_chosen_0, before.logp_rejected AS logp_rejected_0,
    seen.beta * (seen.logp_chosen - seen.logp_rejected) AS margin,
    seen.beta * (before.logp_chosen - before.logp_rejected) AS margin_0
FROM pair_logps AS seen
JOIN pair_logps AS before
    ON before.run_id = $run_id AND before.model = 'M_0' AND before.iteration = seen.iteration
    AND before.pair_id = seen.pair_id
WHERE seen.run_id = $run_id AND seen.model <> 'M_0'"""
SEEN_AT = f"{SEEN} AND seen.iteration = $policy"
SEEN_LAST = f"{SEEN} QUALIFY seen.iteration = max(seen.iteration) OVER (PARTITION BY seen.pair_id)"

# The latest policy that saw each pair.
MARGINS = """SELECT pair_id,
    arg_max(beta * (logp_chosen - logp_rejected), iteration) AS margin,
    arg_max(gamma, iteration) AS gamma
FROM pair_logps
WHERE run_id = $run_id AND model <> 'M_0'
GROUP BY pair_id"""

LOOKS = {
    "satisfied": "margin > gamma",
    "short of gamma": "margin > 0 AND margin <= gamma",
    "ranked wrongly": "margin <= 0",
    "learned": "margin_0 <= 0 AND margin > 0",
    "unlearned": "margin_0 > 0 AND margin <= 0",
    "right before and after": "margin_0 > 0 AND margin > 0",
    "wrong before and after": "margin_0 <= 0 AND margin <= 0",
    "chosen less likely": "logp_chosen < logp_chosen_0",
    "seen by the policy": "true",
}

# Which side each judge prefers: 1 the chosen one, -1 the rejected one, 0 neither, NULL where it has not judged.
JUDGES = {
    "label": "1",
    "scorer": "CASE WHEN isfinite(gap) THEN sign(gap) END",
    "policy": "sign(margin)",
    "training": "sign((logp_chosen - logp_chosen_0) - (logp_rejected - logp_rejected_0))",
    "length": "sign(len_chosen - len_rejected)",
    "readers": "sign(votes)",
}
_VOTES = """SELECT pair_id, sum(CASE verdict WHEN 'chosen' THEN 1 WHEN 'rejected' THEN -1 ELSE 0 END) AS votes
FROM notes
WHERE verdict IN ('chosen', 'rejected', 'tie')
GROUP BY pair_id"""


def judged(seen: str) -> str:
    """One row a pair, with what each judge goes by: gap, margin, lengths, votes."""
    return f"""(SELECT pair_id, iteration, kept, gap, len_chosen, len_rejected FROM parts.pairs WHERE run_id = $run_id)
LEFT JOIN ({seen}) USING (pair_id)
LEFT JOIN ({_VOTES}) USING (pair_id)"""


def opinions(seen: str) -> str:
    """One row a pair: its id, iteration, whether it was kept, and each judge's opinion by the judge's name."""
    told = ", ".join(f"CAST({opinion} AS TINYINT) AS {judge}" for judge, opinion in JUDGES.items())
    return f"SELECT pair_id, iteration, kept, {told} FROM {judged(seen)}"


def quadrant(one: str, side: str, other: str, other_side: str) -> str:
    """The name of "the judge `one` prefers `side` and the judge `other` prefers `other_side`"."""
    return f"{one} {side}, {other} {other_side}"


_SIDES = {"chosen": 1, "rejected": -1}
QUADRANTS = {
    quadrant(one, side, other, other_side): f"{one} = {_SIDES[side]} AND {other} = {_SIDES[other_side]}"
    for one, other in combinations(JUDGES, 2)
    for side, other_side in product(_SIDES, repeat=2)
}


def eye_sql(name: str, *, at_policy: bool) -> str:
    """The condition of that name. `at_policy`: of the policy of round $policy, not of the latest that saw the pair."""
    seen = SEEN_AT if at_policy else SEEN_LAST
    source, condition = (seen, LOOKS[name]) if name in LOOKS else (opinions(seen), QUADRANTS[name])
    return f"pair_id IN (SELECT pair_id FROM ({source}) WHERE {condition})"


EYE_CONDITIONS = {name: eye_sql(name, at_policy=False) for name in (*LOOKS, *QUADRANTS)}
