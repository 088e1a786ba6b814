"""Health: is this preference data sound, and what changed between its answers?"""

from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.bars import bar_chart
from pages.components import Column, card, empty, joined, link, meter, pill, problem, table
from pages.shell import (
    POLL_SECONDS,
    QUIET,
    Lab,
    Selection,
    acting,
    follow,
    heading,
    is_alive,
    no_runs,
    nothing_yet,
    told,
)
from pages.text import NOTHING, count, excerpt, moment, percent, visible
from storage.queries.health import edit_counts, pair_count, topic_count
from storage.store import RunStore
from synpo_lab.health import CheckResult, Report, pairs_since, stored_report
from synpo_lab.health.background import failure, start
from synpo_lab.health.edit_table import EditRow, EditTable, TopicEdit, edit_table, topic_edits
from synpo_lab.health.edits import DRAFT_EDIT, EDIT
from synpo_lab.health.progress import Progress, progress
from synpo_lab.health.report import WORDS, as_json_text, as_markdown, scope, shown_number, worst_first

LEAD = "Is this preference data sound? Every number opens its rows."
TOPICS = 30  # shown
DOING = {
    "starting": "starting",
    "numbers": "reading the numbers of every pair",
    "texts": "reading answers",
    "prompts": "comparing prompts",
    "near-duplicates": "bringing near-duplicates together",
    "writing": "writing what was found",
}
ASKED = {DRAFT_EDIT: "From the draft to the improved answer", EDIT: "From the rejected to the chosen answer"}
SAVE = "() => labSave('health-file')"


def build(lab: Lab) -> None:
    picker = heading("Health", LEAD)
    line = gr.HTML()
    nothing = gr.HTML(elem_classes="hide-empty")
    with gr.Column(visible=False) as content:
        with gr.Row(elem_classes="lab-pager"):
            run = gr.Button(
                "Run the checks", variant="primary", size="sm", scale=0, min_width=150, elem_id="health-run",
                visible=not lab.read_only,
            )  # fmt: skip
            every = gr.Checkbox(
                label="read the texts of every pair", elem_id="health-every", container=False, scale=0, min_width=220,
                visible=not lab.read_only,
            )  # fmt: skip
            markdown = gr.Button("Report as Markdown", size="sm", scale=0, min_width=160, elem_id="health-markdown")
            json = gr.Button("Report as JSON", size="sm", scale=0, min_width=140, elem_id="health-json")
        with gr.Accordion("Look for evaluation prompts of a file too", open=False, visible=not lab.read_only):
            evaluation = gr.File(
                label="AlpacaEval outputs or annotations (JSON), or JSONL with a prompt per line",
                file_types=[".json", ".jsonl"], height=120, elem_id="health-eval",
            )  # fmt: skip
        said = gr.HTML(elem_id="health-said")
        summary = gr.HTML(elem_id="health-summary", elem_classes="hide-empty")
        edits = gr.HTML(elem_id="health-edits", elem_classes="hide-empty")
        cards = gr.HTML(elem_id="health-cards", elem_classes="hide-empty")
    file = gr.DownloadButton("Save the report", visible="hidden", elem_id="health-file")
    timer = gr.Timer(POLL_SECONDS, active=False)
    shown = [said, summary, edits, cards, timer]

    def has_pairs(run_id: str | None) -> bool:
        return run_id is not None and pair_count(lab.database, run_id) > 0

    def fill(asked: Selection) -> list[Any]:
        if not asked.run_id or not has_pairs(asked.run_id):
            return [_none(lab, asked.run_id), gr.Column(visible=False), *[gr.skip()] * len(shown)]
        if asked.query.get("check"):
            _check_first(lab, asked.run_id)
        return ["", gr.Column(visible=True), *_shown(lab, asked.run_id)]

    def begin(run_id: str, path: str | None, every: bool) -> list[Any]:
        most = max(1, pair_count(lab.database, run_id)) if every else None
        start(lab.home, run_id, [Path(path)] if path else [], most_texts=most)
        return [_going(progress(lab.store.run(run_id))), gr.Timer(active=True)]

    @told
    def tick(run_id: str | None) -> list[Any]:
        if not run_id or lab.run(run_id) is None:
            return [*[gr.skip()] * (len(shown) - 1), gr.Timer(active=False)]
        going = progress(lab.store.run(run_id))
        if going is None:
            return _shown(lab, run_id)
        return [_going(going), *[gr.skip()] * (len(shown) - 1)]

    @told
    def save(run_id: str, kind: str) -> Any:
        report = stored_report(lab.store.run(run_id))
        if report is None:
            raise gr.Error("There is no report yet: run the checks first.", print_exception=False)
        path = lab.downloads.path(f"health-{run_id}.{kind}")
        path.write_text(as_json_text(report) if kind == "json" else as_markdown(report), encoding="utf-8")
        return gr.DownloadButton(value=str(path))

    follow(lab, picker, line, has_pairs, fill, [nothing, content, *shown])
    run.click(acting(lab, begin), [picker, evaluation, every], [said, timer], **QUIET)
    timer.tick(tick, picker, shown, **QUIET)
    for button, kind in ((json, "json"), (markdown, "md")):
        saved = button.click(_saver(save, kind), picker, file, **QUIET)
        saved.success(None, None, None, js=SAVE, **QUIET)


def _check_first(lab: Lab, run_id: str) -> None:
    """What a link that says `check=1` asks for: a run never checked is; the numbers of one that was stay as they are."""
    run = lab.store.run(run_id)
    if not lab.read_only and stored_report(run) is None and progress(run) is None and not is_alive(lab.run(run_id)):
        start(lab.home, run_id)


def _saver(save: Any, kind: str) -> Any:
    return lambda run_id: save(run_id, kind)


def _none(lab: Lab, run_id: str | None) -> Markup:
    if run_id is None:
        return no_runs(lab)
    return nothing_yet(
        lab.run(run_id), "pairs", "Checks look at pairs; they come once answers are improved and scored."
    )


def _shown(lab: Lab, run_id: str) -> list[Any]:
    """What is said above, the table, the edits, the cards, and the timer."""
    run = lab.store.run(run_id)
    report, going = stored_report(run), progress(run)
    told = _going(going) if going else _standing(lab, run, report)
    timer = gr.Timer(active=going is not None)
    if report is None:
        return [told, "", "", "", timer]
    return [told, _summary(report), _edits(lab, report), _cards(report), timer]


def _standing(lab: Lab, run: RunStore, report: Report | None) -> Markup:
    failed = failure(run)
    trouble = problem(visible(failed), "mend it and run the checks again") if failed else Markup("")
    if report is None:
        how = "Ask whoever keeps this lab to run" if lab.read_only else "Press “Run the checks”, or use"
        command = Markup("<code>synpo-lab check {}</code>").format(run.run_id)
        return trouble + empty("This run has not been checked yet", Markup("{} {}.").format(how, command))
    made = Markup("<p class='lab-line'>Checked {} in {} s. {} {}</p>").format(
        moment(report.at), f"{report.seconds:.1f}", scope(report), _evaluated(report)
    )
    return trouble + made + _stale(pairs_since(lab.database, report))


def _evaluated(report: Report) -> str:
    if not report.evaluation:
        return "No evaluation prompts were given."
    return f"Evaluation prompts: {visible(', '.join(report.evaluation))}."


def _stale(added: int) -> Markup:
    if not added:
        return Markup("")
    return Markup(
        '<div class="lab-cut none" role="status"><b>{} pairs were added since.</b> Run the checks again.</div>'
    ).format(count(added))


def _going(now: Progress | None) -> Markup:
    what = DOING.get(now.what, now.what) if now else DOING["starting"]
    if now is None or not now.total:
        bar, counted = Markup("<progress></progress>"), ""
    else:
        bar = Markup('<progress max="{}" value="{}"></progress>').format(now.total, now.done)
        counted = f"{count(now.done)} of {count(now.total)}"
    return Markup(
        '<section class="lab-card lab-live" role="status"><div class="lab-stage"><b>Checking: {}</b><span>{}</span></div>{}'
        "</section>"
    ).format(what, counted, bar)


def _summary(report: Report) -> Markup:
    columns = [
        Column("check", lambda check: Markup('<a href="#{}">{}</a>').format(_anchor(check), check.name)),
        Column("judgement", _judged),
        Column("number", lambda check: f"{shown_number(check)} {check.unit}", True),
        Column("share", _share, True, "of kept pairs"),
        Column("rows", lambda check: _rows(report, check), True),
        Column("what to do", lambda check: check.note if check.judgement in {"fine", "unknown"} else check.advice),
    ]
    wrong = [check for check in report.checks if check.judgement in {"look", "trouble"}]
    note = f"{len(wrong)} of {len(report.checks)} checks found something to look into"
    return card("The report", table(columns, worst_first(report.checks), css="stack"), note=note)


def _judged(check: CheckResult) -> Markup:
    return pill(WORDS[check.judgement], check.judgement, check.threshold)


def _share(check: CheckResult) -> str:
    return "" if check.share is None or check.found is None else percent(check.share)


def _rows(report: Report, check: CheckResult) -> object:
    if not check.found:
        return ""
    return link("pairs", f"{count(check.found)} pairs →", run=report.run_id, finding=check.name)


def _cards(report: Report) -> Markup:
    return Markup('<div class="lab-checks">{}</div>').format(
        joined(_card(report, check) for check in worst_first(report.checks))
    )


def _card(report: Report, check: CheckResult) -> Markup:
    chart = bar_chart(check.plot) if check.plot and any(check.plot.heights) else ""
    body = Markup(
        '<p class="lab-big"><b>{}</b> <span>{}</span></p><p>{}</p>{}<p class="lab-lead">{}</p><p>{}</p>'
    ).format(shown_number(check), check.unit, check.meaning, chart, _judged_by(check), _opens(report, check))
    return Markup('<section class="lab-card lab-check" id="{}"><header><h3>{}</h3>{}</header>{}</section>').format(
        _anchor(check), check.name, _judged(check), body
    )


def _judged_by(check: CheckResult) -> str:
    looked = "" if check.looked_at == check.of else f"; of {count(check.looked_at)} pairs looked at"
    note = f" {check.note[:1].upper()}{check.note[1:]}." if check.note else ""
    return f"Judged: {check.threshold}{looked}.{note}"


def _opens(report: Report, check: CheckResult) -> object:
    if check.found is None:
        return link("pairs", "pairs by change of length →", run=report.run_id, sort="length-change")
    if not check.found:
        return "No rows."
    return Markup("{} {} of them kept.").format(_rows(report, check), count(check.found_kept))


def _anchor(check: CheckResult) -> str:
    return "check-" + check.name.replace(" ", "-")


def _edits(lab: Lab, report: Report) -> Markup:
    """What changed most often, for drafts where there are any, and for rejected answers."""
    panels = [
        _edit_panel(lab, report, prefix) for prefix in ASKED if any(kind.startswith(prefix) for kind in report.edits)
    ]
    if not panels:
        return Markup("")
    has_topics = topic_count(lab.database, report.run_id) > 0
    body = joined([*panels, "" if has_topics else _no_topics(report), _phrases(report)])
    return card("What changed most often?", body, note=KINDS_TOLD, css="lab-edits")


KINDS_TOLD = (
    "each pair counts once: copied (white space aside), reformatted (same words), corrected (local changes), extended, "
    "shortened, rewritten"
)


def _edit_panel(lab: Lab, report: Report, prefix: str) -> Markup:
    found = edit_table(edit_counts(lab.database, report.run_id, prefix), prefix)
    if not found.rows:
        return Markup("")
    by_topic = topic_edits(edit_counts(lab.database, report.run_id, prefix, by_topic=True), prefix)
    most = found.rows[0]
    lead = Markup("<p><b>{}</b>: most often {} ({} of {} pairs).</p>").format(
        ASKED[prefix],
        link("pairs", most.name, run=report.run_id, finding=most.kind),
        percent(most.share),
        count(found.pairs),
    )
    return lead + _by_iteration(report, found) + _by_topic(report, by_topic)


def _by_iteration(report: Report, found: EditTable) -> Markup:
    columns = [
        Column("kind", lambda row: link("pairs", row.name, run=report.run_id, finding=row.kind)),
        Column("share", lambda row: Markup("{} {}").format(meter(row.share, 1.0, row.name), percent(row.share)), True),
        Column("pairs", lambda row: count(row.pairs), True),
        *(_part(report, place, part) for place, part in enumerate(found.parts)),
    ]
    return table(columns, found.rows)


def _part(report: Report, place: int, part: str) -> Column:
    def cell(row: EditRow) -> object:
        pairs = row.by_part[place]
        return link("pairs", count(pairs), run=report.run_id, iteration=part, finding=row.kind) if pairs else NOTHING

    return Column(f"iteration {part}", cell, True)


def _by_topic(report: Report, found: list[TopicEdit]) -> Markup:
    if not found:
        return Markup("")
    columns = [
        Column("topic", lambda row: visible(excerpt(row.label, 80))),
        Column("most often", lambda row: row.name),
        Column(
            "pairs",
            lambda row: link("pairs", count(row.pairs), run=report.run_id, topic=row.topic, finding=row.kind),
            True,
        ),
        Column("of", lambda row: count(row.of), True),
        Column("share", lambda row: percent(row.share), True),
    ]
    return Markup("<details><summary>By topic</summary>{}</details>").format(table(columns, found[:TOPICS]))


def _no_topics(report: Report) -> Markup:
    told = "<p class='lab-lead'>By topic too, once the run has topics: <code>synpo-lab topics {}</code>.</p>"
    return Markup(told).format(report.run_id)


def _phrases(report: Report) -> Markup:
    if not report.replaced:
        return Markup("")
    items = joined(
        Markup("<li><del>{}</del> → <ins>{}</ins> <span>{} times</span></li>").format(
            visible(excerpt(before, 60)) or "(nothing)", visible(excerpt(after, 60)) or "(nothing)", count(times)
        )
        for before, after, times in report.replaced
    )
    return Markup("<p><b>Exchanged most often in small edits</b></p><ul class='lab-phrases'>{}</ul>").format(items)
