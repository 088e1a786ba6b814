"""Trainer's eye: how the trained policy ranks the pairs, beside M_0."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import eye_charts
from pages.components import Column, card, facts, link, problem, table
from pages.pair_address import pairs_address, pairs_link
from pages.shell import POLL_SECONDS, QUIET, Lab, Selection, acting, follow, heading, no_runs, nothing_yet, told
from pages.text import beginning, count, number, one_line, percent, signed
from storage.queries import PairQuery
from storage.queries.eye import EYE_SORTS, EyeCount, eye_counts, eye_histogram, eye_page, eye_points
from storage.queries.eye_conditions import LOOKS
from storage.queries.page import Page, Row
from storage.queries.pairs import pair_drop_reasons
from synpo_lab.errors import LabError
from synpo_lab.jobs import looking
from synpo_lab.jobs.wording import stage_name

LEAD = (
    "What training does to the pairs it reads: reward = β × mean log-prob of an answer (SimPO, eq. 4), "
    "margin = reward(chosen) − reward(rejected), and the training asks for a margin above γ."
)
KEPT = {"trained on": True, "not trained on": False, "all": None}
ROWS = 15
POINTS = 2_000
LONGEST = 160
WORDS = {
    "satisfied": "margin above γ: training has nothing left to ask for",
    "short of gamma": "ranked rightly, by less than γ",
    "ranked wrongly": "margin 0 or below: the policy finds the rejected answer as likely, or more",
    "learned": "wrong under M₀, right now",
    "unlearned": "right under M₀, wrong now",
    "right before and after": "right under M₀ and now",
    "wrong before and after": "wrong under M₀ and now",
    "chosen less likely": "the chosen answer is less likely than under M₀: the reward went up, the answer did not",
    "seen by the policy": "all the policy was asked about",
}
LABELS = {look: look.replace("gamma", "γ") for look in LOOKS}
LABELS["seen by the policy"] = "all"


def build(lab: Lab) -> None:
    picker = heading("Trainer’s eye", LEAD)
    line = gr.HTML()
    nothing = gr.HTML(elem_id="eye-nothing", elem_classes="hide-empty")
    with gr.Row(elem_classes="lab-pager", visible=False) as asking:
        ask = gr.Button("Ask the policies now", variant="primary", size="md", scale=0, min_width=210, elem_id="eye-ask")
    with gr.Column(visible=False) as content:
        with gr.Row(elem_classes="lab-filters"):
            policy = gr.Dropdown(label="Policy", choices=[], elem_id="eye-policy", scale=1, min_width=120)
            kept = gr.Dropdown(
                label="Pairs", choices=list(KEPT), value="trained on", elem_id="eye-kept", scale=1, min_width=150
            )
        answer = gr.HTML(elem_id="eye-answer")
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(elem_classes="lab-card", min_width=340):
                scatter = gr.Plot(show_label=False, container=False, elem_id="eye-scatter")
            with gr.Column(elem_classes="lab-card", min_width=340):
                histogram = gr.Plot(show_label=False, container=False, elem_id="eye-histogram")
        quadrants = gr.HTML(elem_id="eye-quadrants")
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(elem_classes="lab-card", min_width=340):
                drift = gr.Plot(show_label=False, container=False, elem_id="eye-drift")
            with gr.Column(elem_classes="lab-card", min_width=340):
                shares = gr.Plot(show_label=False, container=False, elem_id="eye-shares")
        rounds = gr.HTML(elem_id="eye-rounds")
        with gr.Row(elem_classes="lab-filters"):
            look = gr.Dropdown(
                label="Rows", choices=[(LABELS[name], name) for name in LOOKS], value="ranked wrongly",
                elem_id="eye-look", scale=2, min_width=180,
            )  # fmt: skip
            sort = gr.Dropdown(
                label="Order", choices=[(words, name) for name, words in EYE_SORTS.items()], value="margin-up",
                elem_id="eye-sort", scale=2, min_width=180,
            )  # fmt: skip
        rows = gr.HTML(elem_id="eye-rows")
        with gr.Row(elem_classes="lab-pager"):
            previous = gr.Button("← Previous", size="sm", scale=0, min_width=120, elem_id="eye-previous")
            place = gr.HTML(elem_id="eye-place")
            following = gr.Button("Next →", size="sm", scale=0, min_width=120, elem_id="eye-next")
    offset = gr.State(0)
    timer = gr.Timer(POLL_SECONDS, active=False)
    listed = [rows, place, offset, previous, following]
    panels = [answer, scatter, histogram, quadrants, drift, shares, rounds]
    wanted = [picker, policy, kept, look, sort]
    outputs = [nothing, asking, timer, content, policy, kept, look, sort, *panels, *listed]

    @told
    def page(run_id: str, policy: int, kept: str, look: str, sort: str, start: int = 0) -> list[Any]:
        return _listed(lab, run_id, policy, KEPT[kept], look, sort, max(0, start))

    @told
    def show(run_id: str, policy: int, kept: str, look: str, sort: str) -> list[Any]:
        return [*_panels(lab, run_id, policy, kept), *page(run_id, policy, kept, look, sort)]

    def fill(asked: Selection) -> list[Any]:
        counts = _counts(lab, asked.run_id, None)
        if not counts:
            empty = [gr.skip()] * (4 + len(panels) + len(listed))
            return [*_nothing(lab, asked.run_id), gr.Column(visible=False), *empty]
        chosen = _chosen(asked, counts)
        choices = [(f"M_{row.policy}", row.policy) for row in counts]
        return [
            "", gr.Row(visible=False), gr.Timer(active=False), gr.Column(visible=True),
            gr.Dropdown(choices=choices, value=chosen[0]), *chosen[1:], *show(asked.run_id or "", *chosen),
        ]  # fmt: skip

    def start_asking(run_id: str) -> list[Any]:
        looking.look(lab.home, run_id)
        return [_asking(lab, run_id), gr.Row(visible=False), gr.Timer(active=True)]

    @told
    def tick(run_id: str) -> list[Any]:
        if looking.is_looking(lab.home, run_id):
            return [
                _asking(lab, run_id),
                gr.Row(visible=False),
                gr.Timer(active=True),
                *[gr.skip()] * (len(outputs) - 3),
            ]
        return fill(Selection(run_id, {}))

    follow(lab, picker, line, lambda run_id: bool(_counts(lab, run_id, None)), fill, outputs)
    changed = gr.on([policy.input, kept.input], show, wanted, [*panels, *listed], trigger_mode="always_last", **QUIET)
    reordered = gr.on([look.input, sort.input], page, wanted, listed, trigger_mode="always_last", **QUIET)
    for done in (changed, reordered):
        done.then(
            None, wanted[1:], None, js="(policy, kept, look, sort) => labAddress({policy, kept, look, sort})", **QUIET
        )
    for button, by in ((previous, -ROWS), (following, ROWS)):
        button.click(partial(_step, page, by), [offset, *wanted], listed, **QUIET)
    ask.click(
        acting(lab, start_asking), picker, [nothing, asking, timer], api_visibility="private", show_progress="minimal"
    )
    timer.tick(tick, picker, outputs, **QUIET)


def _step(page: Any, by: int, start: int, *wanted: Any) -> list[Any]:
    shown: list[Any] = page(*wanted, start=start + by)
    return shown


def _counts(lab: Lab, run_id: str | None, kept: bool | None) -> list[EyeCount]:
    return eye_counts(lab.database, run_id or "", kept=kept)


def _chosen(asked: Selection, counts: list[EyeCount]) -> tuple[int, str, str, str]:
    """Policy, pairs, rows and order, as the address has them."""
    policies = [row.policy for row in counts]
    policy = asked.whole("policy")
    kept, look, sort = (asked.query.get(name, "") for name in ("kept", "look", "sort"))
    return (
        policy if policy in policies else policies[-1],
        kept if kept in KEPT else "trained on",
        look if look in LOOKS else "ranked wrongly",
        sort if sort in EYE_SORTS else "margin-up",
    )


def _nothing(lab: Lab, run_id: str | None) -> list[Any]:
    """Why there is nothing to see, whether the policies can be asked now, and whether they are being asked."""
    off = [gr.Row(visible=False), gr.Timer(active=False)]
    status = lab.run(run_id)
    if run_id is None or status is None:
        return [no_runs(lab), *off]
    if looking.is_looking(lab.home, run_id):
        return [_asking(lab, run_id), gr.Row(visible=False), gr.Timer(active=True)]
    if status.state == "imported":
        told_why = Markup(
            "An imported data set was read by no trainer of ours, so no policy has log-probs of its pairs. "
            "The {} says where scorer, length and readers disagree."
        ).format(link("disagree", "disagreement board", run=run_id))
        return [Markup('<section class="lab-empty"><h3>No policy here</h3><p>{}</p></section>').format(told_why), *off]
    when = "Log-probs come after each training on pairs."
    can_ask = not lab.read_only and bool(_policies(lab, run_id)) and status.state in {"finished", "stopped"}
    return [nothing_yet(status, "log-probs", when), gr.Row(visible=can_ask), gr.Timer(active=False)]


def _policies(lab: Lab, run_id: str) -> list[int]:
    try:
        return looking.policies(lab.home, run_id)
    except LabError:
        return []


def _asking(lab: Lab, run_id: str) -> Markup:
    status = lab.run(run_id)
    at = stage_name(status.stage, status.iteration) if status and status.stage.startswith("look") else "loading"
    done = f"{count(status.done)} of {count(status.total)}" if status and status.total else ""
    return Markup('<section class="lab-empty"><h3>The policies are being asked</h3><p>{} {}</p></section>').format(
        at, done
    )


def _panels(lab: Lab, run_id: str, policy: int, kept: str) -> list[Any]:
    counts = _counts(lab, run_id, KEPT[kept])
    told_of = next((row for row in counts if row.policy == policy), None)
    if told_of is None:
        nobody = problem(
            f"M_{policy} was asked about no pairs of this kind.", "choose “all” pairs, or raise eye.dropped"
        )
        return [nobody, None, None, "", None, None, ""]
    wanted = KEPT[kept]
    points = [
        point | {"look": _look(point)} for point in eye_points(lab.database, run_id, policy, kept=wanted, limit=POINTS)
    ]
    keep = f"{run_id} {policy} {kept}"
    opens = _opener(run_id)
    return [
        _answer(run_id, told_of, kept, _stored(lab, run_id, told_of, kept)) + _other_loss(lab, run_id),
        eye_charts.margins(points, told_of, opens, keep),
        eye_charts.margin_histogram(eye_histogram(lab.database, run_id, policy, kept=wanted), told_of, keep),
        _quadrants(run_id, told_of, kept),
        eye_charts.drift(counts, run_id),
        eye_charts.shares(counts, run_id),
        _rounds(run_id, counts, kept),
    ]


def _look(point: Mapping[str, Any]) -> str:
    right, was_right = point["margin"] > 0, point["margin_0"] > 0
    if right:
        return "right before and after" if was_right else "learned"
    return "unlearned" if was_right else "wrong before and after"


def _opener(run_id: str) -> Any:
    def opens(pair_id: str) -> str:
        return pairs_address(run_id, pair=pair_id)

    return opens


def _rows_link(run_id: str, told_of: EyeCount, kept: str, look: str, label: object = None) -> Markup:
    """The number of pairs of a look, which opens them on the Pairs page."""
    n: int = getattr(told_of, look.replace(" ", "_"))
    query = PairQuery(eye=look, policy=told_of.policy, kept=KEPT[kept])
    return pairs_link(count(n) if label is None else label, run_id, query, sort="margin-up")


def _stored(lab: Lab, run_id: str, told_of: EyeCount, kept: str) -> int:
    """How many pairs of that kind there are up to the policy's round, asked about or not."""
    reasons = pair_drop_reasons(lab.database, run_id)
    return sum(
        row["pairs"]
        for row in reasons
        if row["iteration"] <= told_of.policy and KEPT[kept] in {None, row["reason"] == "kept"}
    )


def _sample(told_of: EyeCount, kept: str, stored: int) -> str:
    """That the policy was asked about some of the pairs only, where it was."""
    if told_of.pairs >= stored:
        return ""
    which = "stored" if kept == "all" else kept
    return (
        f"; a sample: the policy was asked about {count(told_of.pairs)} of the {count(stored)} pairs {which} up to round "
        f"{told_of.policy} (eye.pairs, eye.dropped)"
    )


def _answer(run_id: str, told_of: EyeCount, kept: str, stored: int) -> Markup:
    """Which pairs does the trained policy still rank wrongly? And is it healthy? `stored`: how many pairs there are."""
    wrong = _rows_link(run_id, told_of, kept, "ranked wrongly", f"{count(told_of.ranked_wrongly)} pairs")
    share, before = told_of.ranked_wrongly / told_of.pairs, 1 - told_of.right_0 / told_of.pairs
    head = Markup("M<sub>{}</sub> still ranks {} of {} wrongly ({}; M₀: {}).").format(
        told_of.policy, wrong, count(told_of.pairs), percent(share), percent(before)
    )
    parts = [
        (
            LABELS[look],
            Markup('<span title="{}">{}</span>').format(WORDS[look], _rows_link(run_id, told_of, kept, look)),
        )
        for look in ("satisfied", "short of gamma", "ranked wrongly", "learned", "unlearned", "chosen less likely")
    ]
    numbers = [
        ("mean margin", signed(told_of.margin, 2)),
        ("M₀’s", signed(told_of.margin_0, 2)),
        ("β", number(told_of.beta, 0)),
        ("γ", number(told_of.gamma, 2)),
    ]
    note = f"pairs {kept}; each number opens its rows{_sample(told_of, kept, stored)}"
    return card(head, facts([*parts, *numbers]) + _health(told_of), note=note)


def _other_loss(lab: Lab, run_id: str) -> Markup:
    """Margins and γ are SimPO's: what the page means for a policy that another loss trained."""
    try:
        kind = lab.config(run_id).simpo.kind
    except LabError:
        return Markup("")
    if kind == "simpo":
        return Markup("")
    return Markup(
        '<p class="lab-line lab-warn">This policy was trained by {}: margins here are still β × mean log-prob, as SimPO has '
        "them, and γ was no target. Its own reward compares with M₀: see “training” on the {}.</p>"
    ).format(kind.upper(), link("disagree", "disagreement board", run=run_id, one="training"))


def _health(told_of: EyeCount) -> Markup:
    """Reward can go up while the chosen answers get less likely: that is how a policy gets worse."""
    change, rejected = told_of.logp_chosen - told_of.logp_chosen_0, told_of.logp_rejected - told_of.logp_rejected_0
    said = (
        "The chosen answers became less likely: the margin grew by pushing the rejected ones down. Watch repetition "
        "and length; simpo.sft_weight or a lower learning rate holds it."
        if change < 0
        else "The chosen answers became more likely: the margin did not grow by pushing everything down."
    )
    return Markup('<p class="lab-line {}">{} <span>chosen {} nats per token, rejected {}</span></p>').format(
        "lab-warn" if change < 0 else "", said, signed(change, 3), signed(rejected, 3)
    )


def _quadrants(run_id: str, told_of: EyeCount, kept: str) -> Markup:
    def cell(look: str) -> Markup:
        n: int = getattr(told_of, look.replace(" ", "_"))
        return Markup("<td><b>{}</b><span>{} · {}</span></td>").format(
            _rows_link(run_id, told_of, kept, look), LABELS[look], percent(n / told_of.pairs)
        )

    body = Markup(
        '<table class="lab-quadrants"><thead><tr><td></td><th scope="col">wrong under M₀</th>'
        '<th scope="col">right under M₀</th></tr></thead><tbody>'
        '<tr><th scope="row">right under M<sub>{t}</sub></th>{learned}{right}</tr>'
        '<tr><th scope="row">wrong under M<sub>{t}</sub></th>{wrong}{unlearned}</tr></tbody></table>'
    ).format(
        t=told_of.policy, learned=cell("learned"), right=cell("right before and after"),
        wrong=cell("wrong before and after"), unlearned=cell("unlearned"),
    )  # fmt: skip
    return card("The quadrants", body, note="right: the margin is above 0")


def _rounds(run_id: str, counts: list[EyeCount], kept: str) -> Markup:
    def rows_of(look: str) -> Any:
        return lambda row: _rows_link(run_id, row, kept, look)

    looks = [look for look in LOOKS if look != "seen by the policy"]
    columns = [
        Column(
            "policy",
            lambda row: link("eye", Markup("M<sub>{}</sub>").format(row.policy), run=run_id, policy=row.policy),
        ),
        Column("pairs", rows_of("seen by the policy"), True),
        *(Column(LABELS[look], rows_of(look), True, WORDS[look]) for look in looks),
        Column("mean margin", lambda row: signed(row.margin, 2), True),
        Column("chosen logp", lambda row: number(row.logp_chosen), True, "nats per token"),
        Column("M₀’s", lambda row: number(row.logp_chosen_0), True, "nats per token, of the same pairs"),
        Column("β", lambda row: number(row.beta, 0), True),
        Column("γ", lambda row: number(row.gamma, 2), True),
    ]
    note = f"pairs {kept}; margins under M₀ use the same β as those under M_t"
    return card("By iteration", table(columns, counts), note=note)


def _listed(lab: Lab, run_id: str, policy: int, kept: bool | None, look: str, sort: str, start: int) -> list[Any]:
    found = eye_page(
        lab.database, run_id, policy, kept=kept, look=look, sort=sort, limit=ROWS, offset=start, excerpt=LONGEST + 1
    )
    last = start + len(found.rows)
    where = f"{count(start + 1)} to {count(last)} of {count(found.total)}" if found.rows else "none"
    return [
        _table(run_id, found, look),
        Markup("<p class='lab-place'>{}</p>").format(where),
        start,
        gr.Button(interactive=start > 0),
        gr.Button(interactive=last < found.total),
    ]


def _table(run_id: str, found: Page, look: str) -> Markup:
    if not found.rows:
        return card(LABELS[look], Markup("<p class='lab-none'>No pair is like that.</p>"), note=WORDS[look])
    columns = [
        Column("pair", lambda row: link("pairs", row["pair_id"][:6], run=run_id, pair=row["pair_id"])),
        Column("prompt", partial(_text, "prompt")),
        Column("chosen", partial(_text, "chosen")),
        Column("rejected", partial(_text, "rejected")),
        Column("margin", lambda row: Markup("<b>{}</b>").format(signed(row["margin"], 2)), True, "under M_t"),
        Column("M₀", lambda row: signed(row["margin_0"], 2), True, "margin under M_0"),
        Column("chosen logp", lambda row: _moved(row, "logp_chosen"), True, "nats per token: M_0 → M_t"),
        Column("rejected logp", lambda row: _moved(row, "logp_rejected"), True, "nats per token: M_0 → M_t"),
        Column("gap", lambda row: signed(row["gap"], 2), True, "score(chosen) − score(rejected)"),
        Column("round", lambda row: row["iteration"], True),
    ]
    return card(LABELS[look], table(columns, found.rows, css="stack"), note=WORDS[look])


def _text(name: str, row: Row) -> Markup:
    return Markup('<span class="wide" dir="auto">{}</span>').format(one_line(beginning(row[name], LONGEST)))


def _moved(row: Row, name: str) -> str:
    return f"{number(row[f'{name}_0'], 2)} → {number(row[name], 2)}"
