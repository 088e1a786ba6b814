"""What a filter does to a run, in words, tables and bars: how much it keeps, where the rest goes, what the kept are like."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pages.components import Column, address, card, joined, link, meter, pill, table, text_cell
from pages.pair_address import pairs_address, pairs_link
from pages.run_words import TRAINED, RunWords
from pages.text import NOTHING, count, number, one_line, percent, signed
from storage.queries import Change, Effects, Page, PairFilter, PairQuery, ThresholdCount
from storage.queries.runs import Step

LONGEST = 160  # characters of a text in the table
CHANGED = "changed"  # among the fates whose rows can be shown
KEPT = "kept"


def summary(
    counted: Sequence[ThresholdCount],
    rules: PairFilter,
    stored: PairFilter,
    change: Change,
    baseline: str,
    at_most: int | None = None,
) -> Markup:
    """How much the rules keep, of that a training reads, and the rules it is compared with. `at_most`: of an iteration."""
    pairs, kept, before = (sum(getattr(row, name) for row in counted) for name in ("pairs", "kept", "kept_by_run"))
    if not kept:
        return Markup(
            '<div class="lab-cut none" role="status"><b>This keeps nothing.</b> All {} pairs are dropped, and a '
            "training would refuse to start. {}</div>"
        ).format(count(pairs), _what_helps(counted, pairs))
    above = Markup("") if rules.min_gap is None else Markup("Above a gap of <b>{}</b>: ").format(number(rules.min_gap))
    return Markup(
        '<div class="lab-cut" role="status">{}<b>{}</b> of {} pairs are kept ({}).{} '
        "The rules it was made with ({}) keep {}. Against {}: <b>{}</b>.</div>"
    ).format(
        above,
        count(kept),
        count(pairs),
        percent(kept / pairs),
        _read(counted, at_most),
        _gap_rule(stored),
        count(before),
        baseline,
        _moved(change),
    )


def _what_helps(counted: Sequence[ThresholdCount], pairs: int) -> str:
    """No cut helps where nobody scored: a rule about scores drops what has none."""
    unscored = sum(row.dropped.get("no score", 0) for row in counted)
    if unscored < pairs:
        return "Loosen a rule."
    return (
        "None of them has a score, and a rule about scores drops such a pair wherever its cut is. Untick the rules about "
        "the gap and the chosen score; length ratio, repetition and similarity judge pairs without scores."
    )


def _read(counted: Sequence[ThresholdCount], at_most: int | None) -> Markup:
    """That a training reads fewer pairs than are kept, where it does."""
    kept, read = sum(row.kept for row in counted), sum(row.sampled(at_most) for row in counted)
    if kept == read:
        return Markup("")
    return Markup(" A training reads <b>{}</b> of these, drawn at random: at most {} an iteration.").format(
        count(read), count(at_most)
    )


def _gap_rule(rules: PairFilter) -> str:
    return "no rule about the gap" if rules.min_gap is None else f"gap above {number(rules.min_gap)}"


def _moved(change: Change) -> str:
    return f"+{count(change.added)} / −{count(change.removed)} pairs"


def counts(
    run_id: str, counted: Sequence[ThresholdCount], reasons: Sequence[str], at_most: int | None = None
) -> Markup:
    sampled = any(row.sampled(at_most) < row.kept for row in counted)
    used = [reason for reason in reasons if any(row.dropped.get(reason) for row in counted)]
    columns = [
        Column(
            "iteration",
            lambda row: pairs_link(row.iteration, run_id, PairQuery(iteration=row.iteration)),
        ),
        Column("pairs", lambda row: count(row.pairs), True),
        Column(
            "kept by its own rules",
            lambda row: count(row.kept_by_run),
            True,
            "by those it was made with, before sampling to the pool's size",
        ),
        Column("kept here", lambda row: Markup("<b>{}</b>").format(count(row.kept)), True),
        Column("share", lambda row: percent(row.kept / row.pairs), True),
        *([Column("a training reads", lambda row: count(row.sampled(at_most)), True, _SAMPLED)] if sampled else []),
        *(_dropped(reason) for reason in used),
    ]
    return card(
        "Kept per iteration", table(columns, counted), note="a pair is counted under the first rule that drops it"
    )


_SAMPLED = "of those kept here, drawn at random: pool.pairs_per_iteration at most"


def _dropped(reason: str) -> Column:
    return Column(f"dropped: {reason}", lambda row: count(row.dropped.get(reason, 0)), True)


def waterfall(
    run_id: str,
    steps: Sequence[Step],
    iteration: int | None,
    rows_at: Mapping[str, Any] | None,
    words: RunWords = TRAINED,
) -> Markup:
    """From what was generated to what is trained on: a bar per loss, each a link to the rows that were lost there.

    `rows_at`: the address of this page with the filter on screen; None when it is the run's own, whose rows the pairs
    page has.
    """
    if not steps:
        return Markup("")
    most = max(step.left + step.dropped for step in steps)
    rows = [_bar(step, most, _step_address(run_id, step, iteration, rows_at), words) for step in steps]
    final = Step("pairs", KEPT, 0, steps[-1].left)
    rows.append(_bar(final, most, _step_address(run_id, final, iteration, rows_at), words))
    bars = Markup('<ol class="lab-waterfall">{}</ol><p class="axis">prompts, then pairs (number)</p>').format(
        joined(rows)
    )
    return card("Where rows are lost", bars, note=f"{words.rows_lost}; a bar opens the rows it lost")


def _bar(step: Step, most: int, to: str, words: RunWords) -> Markup:
    ends = step.reason in words.steps
    name = words.steps.get(step.reason, step.reason)
    title = f"{name}: {count(step.left)}" if ends else f"{name}: {count(step.dropped)} lost, {count(step.left)} left"
    shown = count(step.left) if ends else f"−{count(step.dropped)}"
    return Markup(
        '<li class="{}"><a href="{}" title="{}"><span class="name">{}</span>'
        '<span class="track"><i class="left" style="width:{:.2f}%"></i><i class="lost" style="width:{:.2f}%"></i></span>'
        '<span class="num">{}</span></a></li>'
    ).format("end" if ends else "loss", to, title, name, 100 * step.left / most, 100 * step.dropped / most, shown)


def _step_address(run_id: str, step: Step, iteration: int | None, rows_at: Mapping[str, Any] | None) -> str:
    if step.what == "prompts":
        status = "all" if step.reason == "generated" else f"dropped: {step.reason}"
        return address("prompts", run=run_id, iteration=iteration, status=status)
    if step.reason == "paired":
        return pairs_address(run_id, PairQuery(iteration=iteration))
    if rows_at is not None:
        return address("thresholds", **rows_at, rows=step.reason) + "#cut-changed"
    if step.reason == KEPT:
        return pairs_address(run_id, PairQuery(iteration=iteration, kept=True))
    return pairs_address(run_id, PairQuery(iteration=iteration, drop_reason=step.reason))


def effects(before: Effects, after: Effects, baseline: str) -> Markup:
    """What the kept pairs are like, under the other filter and under this one."""
    measures = [
        ("pairs kept", count(before.kept), count(after.kept), ""),
        ("chosen answer is longer", percent(before.longer), percent(after.longer), "share of the kept pairs"),
        (
            "length ratio",
            number(before.length_ratio),
            number(after.length_ratio),
            "geometric mean of len(chosen) / len(rejected)",
        ),
        ("sides alike", percent(before.similarity), percent(after.similarity), "mean share of words in common"),
        ("gap", number(before.gap), number(after.gap), "mean"),
    ]
    columns = [
        Column(
            "of the kept pairs", lambda row: Markup('{}<br><span class="lab-none">{}</span>').format(row[0], row[3])
        ),
        Column(baseline, lambda row: row[1], True),
        Column("this filter", lambda row: Markup("<b>{}</b>").format(row[2]), True),
    ]
    return card("What the kept pairs are like", table(columns, measures) + _bias(before, after))


def _bias(before: Effects, after: Effects) -> Markup:
    """In a sentence: does keeping more raise the length bias?"""
    if before.longer is None or after.longer is None or before.kept == after.kept:
        return Markup("")
    much = "more" if after.kept > before.kept else "less"
    rose = "raises" if after.longer > before.longer else "lowers" if after.longer < before.longer else "does not change"
    return Markup('<p class="lab-said">Keeping {} <b>{}</b> the length bias: the chosen answer is the longer one in '
                  "{} of the kept pairs, before in {}.</p>").format(
        much, rose, percent(after.longer), percent(before.longer)
    )  # fmt: skip


def variety(before: float | None, after: float | None, sampled: int, baseline: str) -> Markup:
    if after is None:
        return Markup("")
    told = Markup(
        "<p>Of 100 words in a row of the kept answers <b>{}</b> differ; under {} {} (up to {} answers each).</p>"
    )
    return card("Diversity", told.format(number(after, 1), baseline, number(before, 1), count(sampled)))


def topics(run_id: str, rows: Sequence[Mapping[str, Any]], iteration: int | None) -> Markup:
    if not rows:
        return Markup("")
    columns = [
        Column(
            "topic",
            lambda row: pairs_link(one_line(row["label"]), run_id, PairQuery(iteration=iteration, topic=row["topic"])),
        ),
        Column("pairs", lambda row: count(row["pairs"]), True),
        Column("kept", lambda row: count(row["kept"]), True),
        Column(
            "share",
            lambda row: meter(row["kept"] / row["pairs"], 1, "share kept") + " " + percent(row["kept"] / row["pairs"]),
            True,
        ),
    ]
    return card("Kept per topic", table(columns, rows), note="the largest topics")


def rows(run_id: str, found: Page, fate: str, baseline: str, start: int) -> Markup:
    """The pairs of a fate, a screen at a time."""
    title = (
        "Which rows change" if fate == CHANGED else "The pairs that are kept" if fate == KEPT else f"Dropped: {fate}"
    )
    if not found.total:
        none = f"None: this filter and {baseline} keep exactly the same pairs." if fate == CHANGED else "None."
        return card(title, Markup("<p>{}</p>").format(none))
    columns = [
        *([Column("", _comes_or_goes), Column("why", _why)] if fate == CHANGED else []),
        Column("gap", lambda row: signed(row["gap"]), True),
        Column("prompt", lambda row: text_cell(row["prompt"], LONGEST)),
        Column("rejected", lambda row: text_cell(row["rejected"], LONGEST)),
        Column("chosen", lambda row: text_cell(row["chosen"], LONGEST)),
        Column("", lambda row: link("pairs", "pair →", run=run_id, pair=row["pair_id"])),
    ]
    note = f"{count(found.total)} in all; {count(start + 1)} to {count(start + len(found.rows))}, widest gap first"
    return card(title, table(columns, found.rows, css="stack"), note=note)


def _comes_or_goes(row: Mapping[str, Any]) -> Markup:
    return pill("+ comes in", "kept") if row["kept_after"] else pill("− goes out", "dropped")


def _why(row: Mapping[str, Any]) -> str:
    return str(row["dropped_after"] or row["dropped_before"] or NOTHING)
