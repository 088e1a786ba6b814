"""Topics of a run's prompts in a table, and what the policy got better and worse at."""

from collections.abc import Sequence

from markupsafe import Markup

from pages.components import Column, card, link, meter, stacked, table
from pages.prompt_map import SHAPES, mark_of
from pages.prompt_rows import topic_name
from pages.shell import Lab
from pages.text import count, number, percent, signed
from storage.queries.topics import TopicResult, TopicShare, TopicSize, topic_results, topic_shares, topic_sizes

WORST = 3  # topics told on the overview


def topics_panel(lab: Lab, run_id: str) -> Markup:
    """Every topic with its size, novelty and result; then how the last iteration changed each."""
    sizes = topic_sizes(lab.database, run_id)
    if not sizes:
        return Markup("")
    results = topic_results(lab.database, run_id)
    return stacked([_changes(run_id, results), _sizes(run_id, sizes, topic_shares(lab.database, run_id))])


def _sizes(run_id: str, sizes: Sequence[TopicSize], shares: Sequence[TopicShare]) -> Markup:
    rounds = sorted({share.iteration for share in shares})
    by_round = {(share.topic, share.iteration): share.share for share in shares}
    widest = max((share.share for share in shares), default=1.0)

    def in_round(iteration: int) -> Column:
        def cell(size: TopicSize) -> object:
            share = by_round.get((size.topic, iteration), 0.0)
            return Markup('<span class="lab-share">{}{}</span>').format(meter(share, widest, "share"), percent(share))

        return Column(f"round {iteration}", cell, True, "share of the round's kept prompts")

    columns = [
        Column("topic", lambda size: _opened(run_id, size.topic, size.label)),
        Column("prompts", lambda size: count(size.prompts), True, "kept prompts, or imported ones"),
        Column("seeds", lambda size: count(size.seeds), True),
        Column("evaluation", lambda size: count(size.evaluation), True, "evaluation prompts"),
        Column("novelty", lambda size: number(size.novelty, 2), True, "mean of 1 − similarity to the nearest seed"),
        Column("highest overlap", lambda size: number(size.overlap, 2), True, "similarity to an evaluation prompt"),
        *(in_round(iteration) for iteration in rounds[:12]),
        Column("", lambda size: link("pairs", "pairs →", run=run_id, topic=size.topic) if size.prompts else ""),
    ]
    note = "the largest first; a round's column is the share of its prompts that are about the topic"
    return card("Topics", table(columns, sizes), note=note)


def _changes(run_id: str, results: Sequence[TopicResult]) -> Markup:
    latest = [result for result in results if result.iteration == results[0].iteration] if results else []
    if not latest:
        return Markup("")
    columns = [
        Column("topic", lambda result: _opened(run_id, result.topic, result.label, "evaluation prompts")),
        *result_columns(),
        Column("", lambda result: link("lineage", "its prompts →", run=run_id, topic=result.topic, order="worse")),
    ]
    return card(told_title(latest[0]), table(columns, latest, css="changes"), note=told_note(latest[0]))


def result_columns() -> list[Column]:
    return [
        Column("prompts", lambda result: count(result.n), True, "evaluation prompts of the topic"),
        Column("mean score", lambda result: number(result.score), True),
        Column("change", _change, True, "mean change of the score per prompt ± its standard error"),
        Column("win rate", lambda result: percent(result.win_rate), True, "against M₀, a tie is half a win"),
        Column("change of win rate", _win_change, True, "in percentage points"),
    ]


def told_title(result: TopicResult) -> Markup:
    if result.before is None:
        return Markup("M<sub>{}</sub> by topic").format(result.iteration)
    return Markup("What M<sub>{}</sub> got worse at, and better").format(result.iteration)


def told_note(result: TopicResult) -> Markup:
    if result.before is None:
        return Markup("held-out prompts; there is no earlier policy to compare with")
    return Markup("held-out prompts, against M<sub>{}</sub> on the same ones; the largest fall first").format(
        result.before
    )


def worst_topics(lab: Lab, run_id: str | None) -> Markup:
    """For the overview: the topics the last iteration fell most at, and the way to all of them."""
    if run_id is None:
        return Markup("")
    results = [result for result in topic_results(lab.database, run_id) if result.score_change is not None]
    if not results:
        return Markup("")
    latest = [result for result in results if result.iteration == results[0].iteration]
    columns = [Column("topic", lambda result: _opened(run_id, result.topic, result.label)), *result_columns()]
    everything = link("prompts", "all topics →", run=run_id, tab="topics")
    return card(told_title(latest[0]), table(columns, latest[:WORST]) + everything, note=told_note(latest[0]))


def _opened(run_id: str, topic: int, label: str, status: str = "") -> Markup:
    mark = mark_of(topic)
    drawn = Markup(
        '<svg class="lab-mark" viewBox="-11 -11 22 22" aria-hidden="true"><path d="{}" style="--c:{}"/></svg>'
    )
    chosen = {"status": "held out (evaluation)"} if status else {}
    shape = drawn.format(SHAPES[mark.shape], mark.colour)
    return Markup('<span class="lab-topic">{}{}</span>').format(
        shape, link("prompts", topic_name(topic, label), run=run_id, topic=topic, **chosen)
    )


def _change(result: TopicResult) -> str:
    if result.score_change is None:
        return ""
    error = f" ± {number(result.score_change_se)}" if result.score_change_se is not None else ""
    return f"{signed(result.score_change)}{error}"


def _win_change(result: TopicResult) -> str:
    return "" if result.win_change is None else f"{signed(100 * result.win_change, 1)}"
