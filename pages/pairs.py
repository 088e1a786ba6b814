"""Pairs: one preference pair at a time, everything about it side by side; or a screen of them; and readers' verdicts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.answers import columns_of
from pages.components import address
from pages.export_panel import export_panel
from pages.pair_address import (
    NAMES,
    Asked,
    Modes,
    asked_of,
    modes_of,
    pairs_address,
    written,
    written_modes,
)
from pages.pair_filters import asked_by, chips_html, filter_updates, filter_widgets
from pages.pair_list import LONGEST, ROWS, list_html, words_of
from pages.pair_view import View, order_of, pair_html
from pages.run_words import RunWords, words_of_run
from pages.shell import QUIET, Lab, Selection, edited, follow, heading, no_runs, nothing_yet, told
from pages.text import count
from pages.verdicts import LONGEST_NAME, agreement_html, give, latest_of
from storage.export.notes import NoteFormat, export_notes
from storage.queries import Neighbours, PairQuery
from storage.queries.one_prompt import one_prompt, pair_of_prompt
from storage.queries.page import Row
from storage.queries.pairs import (
    neighbours,
    notes_of,
    pair,
    pair_drop_reasons,
    pair_id_at,
    pairs_screen,
    run_of_pair,
)
from storage.queries.telling import telling_pairs
from synpo_lab.config import RunConfig
from synpo_lab.errors import LabError
from synpo_lab.rendered import ChatFormat, chat_format

__all__ = ["build", "columns_of"]
LEAD = (
    "Each pair trains the policy to prefer one answer over the other. Read them, mark what differs, say what you think."
)
ALL = "all"
BY_GAP = {"gap", "gap-up"}
DIFFS = [("rejected and chosen", "rejected"), ("draft and improved", "draft"), ("off", "off")]
FOLLOW = "(here) => { labAddress(JSON.parse(here || '{}')); }"
REMEMBERED = "(typed, kept) => typed || kept || typed"  # by this browser
SAVE = "() => labSave('notes-file')"
# One after the other, as they were asked: a step that stores a note on leaving sees the verdict given just before it.
IN_TURN: dict[str, Any] = {"concurrency_id": "pairs", "concurrency_limit": 1}
HELP = Markup(
    '<button type="button" class="lab-help" data-opens="pair-keys" aria-haspopup="dialog">? keys</button>'
    '<dialog id="pair-keys" aria-label="keys"><h3>Keys</h3><dl>'
    "<dt>→ j</dt><dd>next</dd><dt>← k</dt><dd>previous</dd>"
    "<dt>1 2</dt><dd>the first, the second answer is better</dd>"
    "<dt>c r</dt><dd>the chosen, the rejected one is better (not when blind)</dd>"
    "<dt>t x u</dt><dd>tie, bad pair, take the verdict back</dd>"
    "<dt>n</dt><dd>write a note (Enter saves it)</dd>"
    "<dt>s b</dt><dd>swap the sides, read blind</dd>"
    "<dt>d m</dt><dd>mark other differences, Markdown</dd>"
    "<dt>l ?</dt><dd>list or one pair, these keys</dd>"
    '</dl><form method="dialog"><button>Close</button></form></dialog>'
)


def build(lab: Lab) -> None:
    picker = heading("Pairs", LEAD)
    line = gr.HTML()
    filters = filter_widgets()
    chips = gr.HTML(elem_id="pair-chips", elem_classes="hide-empty")
    with gr.Row(elem_classes="lab-pager"):
        previous = gr.Button("← Previous", size="sm", scale=0, min_width=110, elem_id="pair-previous")
        place = gr.HTML(elem_id="pair-place")
        following = gr.Button("Next →", size="sm", scale=0, min_width=110, elem_id="pair-next")
        gr.HTML(HELP)
    with gr.Row(elem_classes="lab-pager lab-modes"):
        view = gr.Radio(
            [("one pair", "pair"), ("list", "list")], value="pair", label="Show", elem_id="pair-view", scale=0
        )
        diff = gr.Radio(DIFFS, value="rejected", label="Mark differences between", elem_id="pair-compare", scale=0)
        sides = gr.Radio(
            [("all three", "all"), ("two", "two")], value="all", label="Answers", elem_id="pair-sides", scale=0
        )
        markdown = gr.Checkbox(label="Markdown", elem_id="pair-markdown", scale=0, min_width=90)
        blind = gr.Checkbox(label="Blind", elem_id="pair-blind", scale=0, min_width=70)
        swapped = gr.Checkbox(label="Swapped", elem_id="pair-swap", scale=0, min_width=80)
    modes = [view, diff, sides, markdown, blind, swapped]
    shown = gr.HTML(elem_id="pair")
    with gr.Column(visible=False, elem_classes="lab-card lab-verdict") as bar, gr.Row(elem_classes="lab-votes"):
        first = gr.Button("1", size="sm", scale=0, elem_id="verdict-first")
        second = gr.Button("2", size="sm", scale=0, elem_id="verdict-second")
        tie = gr.Button("t · tie", size="sm", scale=0, elem_id="verdict-tie", min_width=70)
        bad = gr.Button("x · bad pair", size="sm", scale=0, elem_id="verdict-bad", min_width=90)
        back = gr.Button("u · take back", size="sm", scale=0, elem_id="verdict-back", min_width=90)
        note = gr.Textbox(
            label="Note", placeholder="a note; Enter saves it", elem_id="verdict-note", max_lines=4, scale=4,
            min_width=200, show_label=False, container=False,
        )  # fmt: skip
        author = gr.Textbox(
            label="Your name", placeholder="your name", elem_id="verdict-author", max_length=LONGEST_NAME, scale=1,
            min_width=110, show_label=False, container=False,
        )  # fmt: skip
    votes = [first, second, tie, bad, back]
    with gr.Accordion("How often do I agree with the scorer?", open=False, elem_id="agreement") as panel:
        agreed = gr.HTML(elem_id="agreement-table")
        with gr.Row(elem_classes="lab-pager"):
            csv = gr.Button("Save verdicts and notes (CSV)", size="sm", scale=0, min_width=220, elem_id="notes-csv")
            jsonl = gr.Button("… (JSONL)", size="sm", scale=0, min_width=100, elem_id="notes-jsonl")
    export_panel(lab, "pairs", lambda run_id, *values: (run_id, asked_by(values).query), [picker, *filters])
    file = gr.DownloadButton("Save", visible="hidden", elem_id="notes-file")
    current = gr.Textbox(visible="hidden", elem_id="pair-current")
    # The pair that the text in the note's box is of. It is sent with that text, so that neither is taken for another's.
    noted = gr.Textbox(visible="hidden", elem_id="pair-noted")
    at = gr.State(None)  # `current` as the server has it: also before the browser has heard of the last step
    here = gr.Textbox(visible="hidden", elem_id="pair-here")
    seen = gr.State("")  # the pair whose sides were uncovered without a stored verdict
    name = gr.BrowserState("", storage_key="synpo-lab-reader", secret="synpo-lab")
    before, after, opened = gr.State(None), gr.State(None), gr.State(False)
    read_by = gr.State("")  # the reader's name that the page was last drawn for because it changed
    outputs = [shown, place, current, before, after, previous, following, here, chips, bar, *votes, at, noted, note]
    asked = [author, seen, *modes, *filters]

    @told
    def show(run_id: str | None, pair_id: str | None, written_of: str, text: str, *values: Any) -> list[Any]:
        wanted = _Wanted.of(*values)
        return _leaving(lab, written_of, text, wanted, _show(lab, run_id, pair_id, wanted))

    @told
    def again(run_id: str | None, pair_id: str | None, reader: str, *wanted: Any) -> list[Any]:
        """Once the reader's name is another. What is asked for stays as it is told, and what is being written too.

        The box also says that it changed when it is filled with the same name: answered, that would undo a quick step.
        """
        if wanted[0] == reader:
            return [gr.skip()] * (1 + len(outputs))
        made = _show(lab, run_id, pair_id, _Wanted.of(*wanted)) if pair_id else [gr.skip()] * len(outputs)
        stays = {id(chips)} | ({id(note), id(noted)} if made[-1] == "" else set())
        kept = [gr.skip() if id(output) in stays else value for output, value in zip(outputs, made, strict=True)]
        return [wanted[0], *kept]

    @told
    def from_first(run_id: str | None, written_of: str, text: str, *values: Any) -> list[Any]:
        wanted = _Wanted.of(*values)
        return _leaving(lab, written_of, text, wanted, _show(lab, run_id, None, wanted))

    def fill(chosen: Selection) -> list[Any]:
        wanted = _Wanted("", "", modes_of(chosen.query), asked_of(chosen.query))
        made = _show(lab, chosen.run_id, _named(lab, chosen), wanted)
        return [
            *filter_updates(lab, chosen.run_id, wanted.asked),
            *_mode_values(wanted.modes, words_of_run(lab, chosen.run_id)),
            "",
            *made,
        ]

    def vote(which: str) -> Any:
        @told
        def voted(run_id: str | None, pair_id: str | None, written_of: str, text: str, *values: Any) -> list[Any]:
            wanted = _Wanted.of(*values)
            if written_of == pair_id:
                return _vote(lab, run_id, pair_id, which, text, wanted)
            _keep_note(lab, written_of, text, wanted.author)
            return _vote(lab, run_id, pair_id, which, None, wanted)

        return voted

    @told
    def keep(written_of: str, text: str, author: str) -> None:
        _keep_note(lab, written_of, text, author)

    @told
    def agreement(run_id: str | None, reader: str, is_open: bool) -> Any:
        return agreement_html(lab, run_id, reader) if is_open and run_id else gr.skip()

    def saving(format: NoteFormat) -> Any:
        @told
        def save(run_id: str | None) -> Any:
            path = lab.downloads.path(f"{run_id}-notes.{format}")
            return gr.DownloadButton(value=str(export_notes(lab.database, run_id or "", path, format)))

        return save

    def has_pairs(run_id: str | None) -> bool:
        return bool(pair_drop_reasons(lab.database, run_id or ""))

    follow(lab, picker, line, has_pairs, fill, [*filters, *modes, seen, *outputs])
    filtered = [edited(part) for part in filters[:-1]]
    writing = [noted, note]
    quiet: dict[str, Any] = {**QUIET, **IN_TURN}
    picker.input(keep, [*writing, author], None, **quiet)
    gr.on(filtered, from_first, [picker, *writing, *asked], outputs, trigger_mode="always_last", **quiet)
    changed = [mode.input for mode in modes]
    gr.on(changed, show, [picker, at, *writing, *asked], outputs, trigger_mode="always_last", **quiet)
    for button, there in ((previous, before), (following, after)):
        # A step that comes while the one before is being answered waits for it; of a key held down only the last does.
        button.click(show, [picker, there, *writing, *asked], outputs, trigger_mode="always_last", **quiet)
    given = [button.click(vote(which), [picker, current, *writing, *asked], [seen, *outputs], **quiet)
             for button, which in zip(votes, ("first", "second", "tie", "bad", ""), strict=True)]  # fmt: skip
    given.append(note.submit(vote("note"), [picker, current, *writing, *asked], [seen, *outputs], **quiet))
    for done in given:
        done.then(agreement, [picker, author, opened], agreed, **QUIET)
    here.change(None, here, None, js=FOLLOW, **QUIET)
    picker.change(None, [author, name], author, js=REMEMBERED, **QUIET)
    author.change(lambda typed: typed, author, name, **QUIET)
    known = [read_by, *outputs]
    author.change(again, [picker, current, read_by, *asked], known, trigger_mode="always_last", **QUIET)
    # It may be opened before the page is filled: whichever of the two comes last tells.
    panel.expand(lambda: True, None, opened, **QUIET).then(agreement, [picker, author, opened], agreed, **QUIET)
    picker.change(agreement, [picker, author, opened], agreed, **QUIET)
    panel.collapse(lambda: False, None, opened, **QUIET)
    for button, save in ((csv, saving("csv")), (jsonl, saving("jsonl"))):
        button.click(save, picker, file, **QUIET).success(None, None, None, js=SAVE, **QUIET)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the widgets say."""

    author: str
    seen: str
    modes: Modes
    asked: Asked

    @classmethod
    def of(cls, author: str, seen: str, *values: Any) -> "_Wanted":
        return cls(author, seen, Modes(*values[:6]), asked_by(values[6:]))


def _mode_values(modes: Modes, words: RunWords) -> list[Any]:
    """The widgets for the modes; what needs a draft is not offered where there is none."""
    diffs = [one for one in DIFFS if words.is_drafted or one[1] != "draft"]
    known = modes.diff if modes.diff in dict(diffs).values() else "rejected"
    diff, sides = gr.Radio(diffs, value=known), gr.Radio(value=modes.sides, visible=words.is_drafted)
    return [modes.view, diff, sides, modes.markdown, modes.blind, modes.swap]


def _named(lab: Lab, chosen: Selection) -> str | None:
    """The pair of the address: by its id, or by its prompt's."""
    if chosen.run_id is None:
        return None
    if prompt_id := chosen.query.get("prompt"):
        return pair_of_prompt(lab.database, chosen.run_id, prompt_id) or chosen.query.get("pair")
    return chosen.query.get("pair")


def _show(lab: Lab, run_id: str | None, pair_id: str | None, wanted: _Wanted) -> list[Any]:
    """Every output of the page for a pair; without one, for the first there is."""
    if run_id is None:
        return _nothing(no_runs(lab), run_id, wanted)
    why = _reasons(lab, run_id, wanted.asked)
    order = _Order(run_id, *_walked(wanted.asked, why))
    pair_id = pair_id or order.first(lab)
    beside = order.around(lab, pair_id) if pair_id else None
    if pair_id is None or beside is None:
        return _nothing(_none(lab, run_id, pair_id), run_id, wanted)
    if wanted.modes.view == "list":
        return _list(lab, order, pair_id, beside, wanted, why)
    return _one(lab, order, pair_id, beside, wanted, why.get(pair_id, ""))


def _reasons(lab: Lab, run_id: str, asked: Asked) -> dict[str, str]:
    """Why each of the twenty that tell most was picked, in their order; nothing in other orders."""
    if asked.sort != "telling":
        return {}
    return {pick.pair_id: words_of(pick) for pick in telling_pairs(lab.database, run_id, asked.query)}


def _walked(asked: Asked, why: Mapping[str, str]) -> tuple[PairQuery, str]:
    """The query and order that are walked: the twenty that tell most are asked for once, then by their ids."""
    return (PairQuery(ids=tuple(why)), "given") if asked.sort == "telling" else (asked.query, asked.sort)


@dataclass(frozen=True, slots=True)
class _Order:
    """The pairs that are walked through."""

    run_id: str
    query: PairQuery
    sort: str

    def first(self, lab: Lab) -> str | None:
        return pair_id_at(lab.database, self.run_id, self.query, sort=self.sort)

    def around(self, lab: Lab, pair_id: str) -> Neighbours | None:
        return neighbours(lab.database, self.run_id, pair_id, self.query, sort=self.sort)


def _one(lab: Lab, order: _Order, pair_id: str, beside: Neighbours, wanted: _Wanted, why: str) -> list[Any]:
    found = pair(lab.database, order.run_id, pair_id)
    assert found is not None, pair_id  # it has neighbours
    mine = latest_of(found.notes, wanted.author)
    said = mine["verdict"] if mine else ""
    hidden = wanted.modes.blind and not said and wanted.seen != pair_id
    asked_prompt = one_prompt(lab.database, order.run_id, found.pair["prompt_id"]) or {}
    config = _config(lab, order.run_id)
    chat = lab.latest(("chat", order.run_id), None, lambda: _chat(lab, order.run_id, config))
    view = View(order.run_id, found, config, chat, asked_prompt, wanted.modes, hidden, why)
    here = _here(order.run_id, pair_id, wanted)
    place = _place(_standing(beside), here, _unscored(order, found.pair, wanted))
    return [
        pair_html(view),
        place,
        pair_id,
        beside.previous_id,
        beside.next_id,
        gr.Button(interactive=beside.previous_id is not None),
        gr.Button(interactive=beside.next_id is not None),
        json.dumps(here),
        chips_html(order.run_id, wanted.asked),
        gr.Column(visible=True),
        *_vote_buttons(pair_id, wanted.modes, hidden, said),
        pair_id,
        pair_id,
        mine["text"] if mine else "",
    ]


def _list(
    lab: Lab, order: _Order, pair_id: str, beside: Neighbours, wanted: _Wanted, why: Mapping[str, str]
) -> list[Any]:
    if not beside.total:
        return _nothing(_none(lab, order.run_id, None), order.run_id, wanted)
    offset = min(beside.position, beside.total - 1) // ROWS * ROWS  # a pair that is none of them may come after all
    screen = pairs_screen(
        lab.database, order.run_id, order.query, sort=order.sort, rows=ROWS, offset=offset, excerpt=LONGEST + 1
    )
    page, before, after = screen.page, screen.previous_id, screen.next_id
    here = _here(order.run_id, pair_id, wanted)
    rows = list_html(order.run_id, page, wanted.asked, offset, pair_id, why, modes=wanted.modes)
    last = min(offset + ROWS, page.total)
    return [
        rows,
        _place(
            f"{count(offset + 1)} to {count(last)} of {count(page.total)}", here, _unscored(order, page.rows[0], wanted)
        ),
        pair_id,
        before,
        after,
        gr.Button(interactive=before is not None),
        gr.Button(interactive=after is not None),
        json.dumps(here),
        chips_html(order.run_id, wanted.asked),
        gr.Column(visible=False),
        *[gr.skip()] * 5,
        pair_id,
        *[gr.skip()] * 2,
    ]


def _nothing(said: Markup, run_id: str | None, wanted: _Wanted) -> list[Any]:
    off = gr.Button(interactive=False)
    here = json.dumps(_here(run_id, None, wanted))
    chips = chips_html(run_id, wanted.asked)
    return [
        said,
        "",
        None,
        None,
        None,
        off,
        off,
        here,
        chips,
        gr.Column(visible=False),
        *[gr.skip()] * 5,
        None,
        *[gr.skip()] * 2,
    ]


def _here(run_id: str | None, pair_id: str | None, wanted: _Wanted) -> dict[str, str | None]:
    """Everything the address says, and null for what it no longer does."""
    told = written(wanted.asked.query, wanted.asked.sort) | written_modes(wanted.modes)
    return {"run": run_id, "prompt": None, **dict.fromkeys(NAMES), **told, "pair": pair_id}


def _standing(beside: Neighbours) -> str:
    """Which of how many; a pair that is none of them (any more: its verdict may be given) stands before the next one."""
    if beside.matches:
        return f"{count(beside.position + 1)} of {count(beside.total)}"
    if not beside.total:
        return "not among what is asked for · nothing is left"
    place = f"next is {count(beside.position + 1)}" if beside.next_id else "all of them come before it"
    return f"not among the {count(beside.total)} · {place}"


def _place(words: str, here: Mapping[str, str | None], hint: Markup) -> Markup:
    return Markup('<p class="lab-place">{} · <a href="{}" id="permalink">permalink</a>{}</p>').format(
        words, address("pairs", **here), hint
    )


def _unscored(order: _Order, row: Row, wanted: _Wanted) -> Markup:
    """That the order by gap says nothing of pairs nobody scored, and one that does."""
    if order.sort not in BY_GAP or row["gap"] is not None:
        return Markup("")
    there = pairs_address(order.run_id, order.query, sort="length-change", **written_modes(wanted.modes))
    return Markup(' · not scored, so this order says nothing: <a href="{}">by length change</a>').format(there)


def _none(lab: Lab, run_id: str, pair_id: str | None) -> Markup:
    if not pair_drop_reasons(lab.database, run_id):
        return nothing_yet(lab.run(run_id), "pairs", "They come once prompts are drafted, improved and scored.")
    elsewhere = run_of_pair(lab.database, pair_id=pair_id) if pair_id else None
    told_why = Markup("This run has no pair {}.").format(pair_id) if pair_id else "No pair passes these filters."
    if elsewhere:
        told_why += Markup(' <a href="{}">Run {} has it</a>.').format(pairs_address(elsewhere, pair=pair_id), elsewhere)
    return Markup(
        '<section class="lab-empty"><h3>Nothing matches</h3><p>{} <a href="{}">Show the first of all</a>.</p></section>'
    ).format(told_why, address("pairs", run=run_id))


def _vote_buttons(pair_id: str, modes: Modes, hidden: bool, said: str) -> list[Any]:
    """The buttons say which answer they are for; the verdict that holds is the marked one."""
    order = order_of(pair_id, modes)
    names = ("answer 1", "answer 2") if hidden else order
    sides = [
        gr.Button(f"{key} · {name} is better", variant="primary" if said == side else "secondary")
        for key, name, side in zip((1, 2), names, order, strict=True)
    ]
    others = [gr.Button(variant="primary" if said == verdict else "secondary") for verdict in ("tie", "bad")]
    return [*sides, *others, gr.Button(interactive=bool(said))]


def _leaving(lab: Lab, written_of: str, text: str | None, wanted: _Wanted, made: list[Any]) -> list[Any]:
    """What is shown next, `made`; of the pair the note is written of, the box stays as it is; of another, it is stored."""
    if made[-2] == written_of:
        return [*made[:-2], gr.skip(), gr.skip()]
    _keep_note(lab, written_of, text, wanted.author)
    return made


def _keep_note(lab: Lab, pair_id: str, text: str | None, author: str) -> None:
    """A note that was written and not stored, when its pair is left: it is stored beside the verdict there is."""
    said = (text or "").strip()  # an empty box says nothing at all in gradio
    mine = latest_of(notes_of(lab.database, pair_id), author) if said and pair_id else None
    if not said or not pair_id or (mine and mine["text"] == said):
        return
    if lab.read_only:
        gr.Info("This lab is open read-only: your note is not stored.")
    else:
        give(lab, pair_id, mine["verdict"] if mine else "", said, author)


def _vote(
    lab: Lab, run_id: str | None, pair_id: str | None, which: str, text: str | None, wanted: _Wanted
) -> list[Any]:
    """Store a verdict: the first or second answer, tie, bad, "" (taken back), or a note to the verdict there is.

    `text`: the note; None leaves it as it is.
    """
    if run_id is None or not pair_id:
        return [gr.skip()] * 19
    found = pair(lab.database, run_id, pair_id)
    mine = latest_of(found.notes, wanted.author) if found else None
    if text is None:
        text = mine["text"] if mine else ""
    order = order_of(pair_id, wanted.modes)
    verdicts = {"first": order[0], "second": order[1], "note": mine["verdict"] if mine else ""}
    if lab.read_only:
        gr.Info("This lab is open read-only: your verdict is not stored.")
    else:
        give(lab, pair_id, verdicts.get(which, which), text, wanted.author)
    seen = pair_id if which in {"first", "second", "tie", "bad"} else wanted.seen
    return [seen, *_show(lab, run_id, pair_id, replace(wanted, seen=seen))]


def _config(lab: Lab, run_id: str) -> RunConfig:
    """The run's config; the usual one where it has none that can be read: its pairs can be."""
    try:
        return lab.config(run_id)
    except LabError:
        return RunConfig()


def _chat(lab: Lab, run_id: str, config: RunConfig) -> ChatFormat | None:
    policy = "" if config.recipe == "import" else config.policy
    return chat_format(lab.store.run(run_id).models, policy)
