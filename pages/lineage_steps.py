"""One prompt's answers as steps: each beside the one it came from, with what changed between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from pages.answers import cut_note
from pages.components import Column, card, facts, joined, link, pill, stacked, table
from pages.diff import as_html, word_diff
from pages.run_words import TRAINED, RunWords
from pages.text import count, excerpt, number, signed, visible
from storage.queries import Answer, Lineage
from storage.queries.page import Row

LONGEST = 20_000  # characters of an answer shown
VARIANT = "-beta="  # in the name of a model of a grid: M_2-beta=4
MOST_TRIALS = 40
ROLES = ("gold", "initial", "draft", "improved", "candidate", "eval")


@dataclass(frozen=True, slots=True)
class Step:
    """An answer and the one it is compared with."""

    answer: Answer
    before: Answer | None = None
    against: str = ""  # what that one is, in words


def steps_of(answers: Sequence[Answer], words: RunWords = TRAINED) -> list[Step]:
    """The answers in the order they were made, each beside the one before it: a policy's answer beside the policy's before
    it; in a round of pairs the draft beside the initial answer and the improved answer beside the draft; a seed's draft
    beside the draft of the round before. Answers of the grid's losers are left out."""
    told = [answer for answer in answers if VARIANT not in answer.model]
    steps: list[Step] = []
    for answer in sorted(told, key=lambda answer: (answer.iteration, ROLES.index(answer.role), answer.response_id)):
        before = _before(answer, [step.answer for step in steps])
        steps.append(
            Step(answer, before, f"{words.roles.get(before.role, before.role)} {before.model}" if before else "")
        )
    return steps


def _before(answer: Answer, earlier: Sequence[Answer]) -> Answer | None:
    same_round = [other for other in earlier if other.iteration == answer.iteration]
    wanted = {"improved": ("draft", "initial"), "draft": ("initial",)}.get(answer.role, ())
    for role in wanted:
        if found := [other for other in same_round if other.role == role]:
            return found[-1]
    rounds_before = [other for other in earlier if other.role == answer.role and other.iteration < answer.iteration]
    return rounds_before[-1] if rounds_before and answer.role != "gold" else None


def trials_of(answers: Sequence[Answer]) -> list[Answer]:
    """What the members of a grid answered: one of them became the policy."""
    return [answer for answer in answers if VARIANT in answer.model]


def story(run_id: str, found: Lineage, logps: Sequence[Row], words: RunWords = TRAINED) -> Markup:
    """A page of it: every step on a line of its own, then the pairs, then what else was answered."""
    evals = {(row["response_a"]): row for row in found.evals}
    steps = steps_of(found.answers, words)
    lines = joined(_line(step, evals.get(step.answer.response_id), words) for step in steps)
    note = f"{count(len(steps))} answers, each with what changed against the one before it"
    answers = (
        card("Answers", Markup('<ol class="lab-steps-of">{}</ol>').format(lines), note=note) if steps else Markup("")
    )
    return stacked([answers, _pairs(run_id, found.pairs, logps, words), _trials(trials_of(found.answers))])


def _line(step: Step, tested: Row | None, words: RunWords) -> Markup:
    answer = step.answer
    return Markup(
        '<li class="{role}"><header><b>{when}</b><span class="role">{name}</span><span>{model}</span>{outcome}'
        "<strong>{total}</strong>{change}</header>"
        '<div class="lab-text" dir="auto" tabindex="0">{text}</div>{note}<div class="lab-step-facts">{facts}</div></li>'
    ).format(
        role=answer.role,
        when=f"round {answer.iteration}" if answer.iteration else "start",
        name=words.roles.get(answer.role, answer.role),
        model=answer.model,
        outcome=_outcome(tested),
        total=number(answer.scores.get("total"), 2),
        change=_change(step),
        text=_marked(step),
        note=cut_note(answer),
        facts=_facts(step),
    )


def _outcome(tested: Row | None) -> Markup:
    """Whether the policy won against its opponent; M_0 against itself says nothing."""
    if tested is None or tested["model_a"] == tested["model_b"]:
        return Markup("")
    word, kind = {"a": ("won", "kept"), "b": ("lost", "dropped"), "tie": ("tie", "")}[tested["winner"]]
    return pill(f"{word} against {tested['model_b']}", kind)


def _change(step: Step) -> Markup:
    now, then = step.answer.scores.get("total"), step.before.scores.get("total") if step.before else None
    if now is None or then is None:
        return Markup("")
    kind = "up" if now > then else "down" if now < then else "same"
    return Markup('<em class="{}">{}</em>').format(kind, signed(now - then, 2))


def _marked(step: Step) -> Markup:
    """The answer with what it gained underlined and what it lost struck through, in one text."""
    now = excerpt(step.answer.text, LONGEST)
    if step.before is None:
        return Markup("{}").format(visible(now))
    found = word_diff(excerpt(step.before.text, LONGEST), now)
    if found is None:
        return Markup("{}").format(visible(now))
    lost = [span for span in found[0] if span.kind == "gone"]
    return as_html(found[1]) + (
        Markup(' <span class="lab-lost" title="not there any more"><i>without:</i> {}</span>').format(
            joined(as_html([replace(span, text=span.text.strip())]) + " " for span in lost if span.text.strip())
        )
        if any(span.text.strip() for span in lost)
        else Markup("")
    )


def _facts(step: Step) -> Markup:
    aspects = [(aspect, number(value, 2)) for aspect, value in step.answer.scores.items() if aspect != "total"]
    told = [*aspects, ("characters", count(len(step.answer.text))), ("tokens", count(step.answer.n_tokens or None))]
    if step.before is not None:
        told.append(("compared with", step.against))
    return facts(told)


def _pairs(run_id: str, pairs: Sequence[Row], logps: Sequence[Row], words: RunWords) -> Markup:
    """What became of the prompt's pairs: kept, or why not, and what the policies think of them."""
    if not pairs:
        return Markup("")
    columns = [
        Column("round", lambda row: row["iteration"], True),
        Column("gap", lambda row: signed(row["gap"]), True, "score(chosen) − score(rejected)"),
        Column("chosen", lambda row: number(row["chosen_score"], 2), True, "score"),
        Column("rejected", lambda row: number(row["rejected_score"], 2), True, "score"),
        Column(
            "", lambda row: pill("kept", "kept") if row["kept"] else pill(f"dropped: {row['drop_reason']}", "dropped")
        ),
        Column("", lambda row: link("pairs", "pair →", run=run_id, pair=row["pair_id"])),
    ]
    return card("Pairs", table(columns, pairs) + _logps(logps), note=words.fate)


def _logps(rows: Sequence[Row]) -> Markup:
    if not rows:
        return Markup("")
    columns = [
        Column("asked in round", lambda row: row["asked"], True, "M_0 is asked again in each round"),
        Column("model", lambda row: row["model"]),
        Column("chosen", lambda row: number(row["logp_chosen"]), True, "mean log-prob, nats per token"),
        Column("rejected", lambda row: number(row["logp_rejected"]), True, "mean log-prob, nats per token"),
        Column("difference", lambda row: signed(row["logp_chosen"] - row["logp_rejected"]), True, "nats per token"),
        Column("β", lambda row: number(row["beta"], 1), True),
    ]
    caption = "mean log-probs of both sides, nats per token (length-normalised, as SimPO trains on)"
    return table(columns, rows, caption=caption)


def _trials(answers: Sequence[Answer]) -> Markup:
    """Answers of the grid's members, folded away."""
    if not answers:
        return Markup("")
    columns = [
        Column("round", lambda answer: answer.iteration, True),
        Column("model", lambda answer: answer.model),
        Column("score", lambda answer: number(answer.scores.get("total"), 2), True),
        Column(
            "answer",
            lambda answer: Markup('<span class="wide" dir="auto">{}</span>').format(visible(excerpt(answer.text, 600))),
        ),
    ]
    ordered = sorted(answers, key=lambda answer: (answer.iteration, answer.model, answer.response_id))
    return Markup(
        '<details class="lab-card lab-trials"><summary>{} answers of the models of the β grid</summary>{}</details>'
    ).format(count(len(ordered)), table(columns, ordered[:MOST_TRIALS], css="stack"))
