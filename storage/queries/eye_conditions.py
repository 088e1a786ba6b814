"""Named conditions on how the trained policy ranks a pair: what `PairQuery.eye` can ask for.

Each is a condition over a row of `pairs` in which $run_id is bound. A quadrant of a board opens its rows by its name.
"""

# The latest policy that saw each pair: reward = beta x nats per token (SimPO, eq. 4).
MARGINS = """SELECT pair_id,
    arg_max(beta * (logp_chosen - logp_rejected), iteration) AS margin,
    arg_max(gamma, iteration) AS gamma
FROM pair_logps
WHERE run_id = $run_id AND model <> 'M_0'
GROUP BY pair_id"""


def _margin(condition: str) -> str:
    return f"pair_id IN (SELECT pair_id FROM ({MARGINS}) WHERE {condition})"


EYE_CONDITIONS = {
    "satisfied": _margin("margin >= gamma"),
    "short of gamma": _margin("margin > 0 AND margin < gamma"),
    "ranked wrongly": _margin("margin <= 0"),
}
