"""What to do with a filter: copy it as SQL or YAML, keep it under a name, design a run with it, fork this run with it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import address, joined, link, problem
from pages.filter_rules import pair_rules, rules_of, written_rules
from pages.pair_address import pairs_link
from pages.shell import QUIET, Lab, acting, is_alive
from pages.text import count
from storage.pair_filter import kept_sql
from storage.queries import PairQuery, ThresholdCount
from synpo_lab import filters, jobs
from synpo_lab.config import FilterConfig, parse
from synpo_lab.errors import ConfigError, LabError
from synpo_lab.home import storage_errors
from synpo_lab.importing.launching import RECIPE

ONCE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "trigger_mode": "once"}


@dataclass(frozen=True, slots=True)
class UsePanel:
    """The panel's components, for a page to fill by `shown` and `forkable`."""

    sql: gr.Code
    yaml: gr.Code
    links: gr.HTML
    at: gr.Dropdown
    launch: gr.Button
    said: gr.HTML

    @property
    def texts(self) -> list[Any]:
        return [self.sql, self.yaml, self.links]

    @property
    def fork(self) -> list[Any]:
        return [self.at, self.launch, self.said]


def use_panel(
    lab: Lab, picker: gr.Dropdown, rules: Sequence[Any], start: gr.Dropdown, baseline: gr.Dropdown
) -> UsePanel:
    """Lay the panel out. `rules`: the widgets of the filter; `start`, `baseline`: dropdowns that offer filters by name."""
    with gr.Column(elem_classes="lab-card", elem_id="cut-use"):
        gr.HTML("<h3>Use it</h3><p class='lab-none'>The same filter, three times: what is kept here, what this SQL "
                "gives, and what a run with this YAML draws its training pairs from are the same rows.</p>")  # fmt: skip
        with gr.Row(elem_classes="lab-row"):
            sql = gr.Code(language="sql", label="as SQL", interactive=False, elem_id="filter-sql", max_lines=24)
            yaml = gr.Code(language="yaml", label="as YAML", interactive=False, elem_id="filter-yaml", max_lines=24)
        links = gr.HTML(elem_id="filter-links")
        with gr.Row(elem_classes="lab-filters", visible=not lab.read_only):
            name = gr.Textbox(label="Keep it under a name", placeholder="strict", elem_id="filter-name", scale=2)
            keep = gr.Button("Save", size="sm", scale=0, min_width=100, elem_id="filter-save")
        with gr.Row(elem_classes="lab-filters", visible=not lab.read_only):
            at = gr.Dropdown(
                label="Fork from iteration", choices=[], elem_id="fork-at", scale=2,
                info="its pairs and all before it are taken over; its policy is trained on what this filter keeps",
            )  # fmt: skip
            launch = gr.Button(
                "Fork with this filter and launch", variant="primary", scale=0, min_width=310, elem_id="fork"
            )
        said = gr.HTML(elem_id="filter-said", elem_classes="hide-empty")
    made = UsePanel(sql, yaml, links, at, launch, said)

    def save(name: str, against: str, *values: Any) -> list[Any]:
        return _saved(lab, name, rules_of(values), against)

    def fork(run_id: str, at: int | None, *values: Any) -> Markup:
        return _forked(lab, run_id, at, rules_of(values))

    keep.click(acting(lab, save), [name, baseline, *rules], [said, start, baseline], **QUIET)
    launch.click(acting(lab, fork), [picker, at, *rules], said, **ONCE)
    return made


def shown(
    lab: Lab,
    run_id: str,
    rules: FilterConfig,
    stored: FilterConfig,
    iteration: int | None,
    counted: Sequence[ThresholdCount] = (),
) -> list[Any]:
    """Updates of `UsePanel.texts`. `counted`: how many pairs the rules keep of each iteration that is shown."""
    kept = PairQuery(iteration=iteration, rules=pair_rules(rules))
    links = [
        pairs_link("Read the kept pairs →", run_id, kept),
        link("sql", "Run this SQL →", run=run_id, sql=_sql(run_id, rules)),
    ]
    if not lab.read_only:
        told_rules = {name: value for name, value in written_rules(rules, stored).items() if value is not None}
        links.append(Markup('<a href="{}">Design a run with this filter →</a>').format(
            address("iterations", run=run_id, new=1, **told_rules)
        ))  # fmt: skip
    said = Markup('{}<p class="lab-line">{}</p>').format(_sampled(lab, run_id, counted), joined(links))
    return [_sql(run_id, rules), filters.as_yaml(rules), said]


def _sampled(lab: Lab, run_id: str, counted: Sequence[ThresholdCount]) -> Markup:
    """That a training reads fewer pairs than are kept, where it does."""
    most = at_most(lab, run_id)
    more = [row for row in counted if row.sampled(most) < row.kept]
    told_rounds = ", ".join(f"{count(row.kept)} of iteration {row.iteration}" for row in more)
    told_as = (
        '<p class="lab-none">A run of this config trains on {} of them an iteration at most, drawn at random '
        "(pool.pairs_per_iteration); kept here are {}.</p>"
    )
    return Markup(told_as).format(count(most), told_rounds) if more else Markup("")


def at_most(lab: Lab, run_id: str) -> int | None:
    """How many of an iteration's kept pairs a training reads; None for a data set, which was not trained on here."""
    config = lab.config(run_id)
    return None if config.recipe == RECIPE else config.pool.pairs_per_iteration


def _sql(run_id: str, rules: FilterConfig) -> str:
    return kept_sql(pair_rules(rules), run_id)


def forkable(lab: Lab, run_id: str) -> list[Any]:
    """Updates of `UsePanel.fork`: the iterations a fork can begin at, and why there is none."""
    with storage_errors():
        known = jobs.iterations_to_fork(lab.store.run(run_id))
    status = lab.run(run_id)
    can = bool(known) and not is_alive(status) and status is not None and status.state != "imported"
    label = "Fork with this filter and launch" if can else _why_not(status.state if status else "", bool(known))
    return [
        gr.Dropdown(choices=known, value=known[-1] if known else None, interactive=can),
        gr.Button(label, interactive=can),
        "",
    ]


def _why_not(state: str, has_pairs: bool) -> str:
    if state == "imported":
        return "A data set has no training to fork"
    return "Can be forked once it has stopped" if has_pairs else "Can be forked once it has pairs"


def _saved(lab: Lab, name: str, rules: FilterConfig, against: str) -> list[Any]:
    """What is said, and the choices of both dropdowns; `against`: what the second has chosen."""
    try:
        with storage_errors():
            lab.store.check_writable()
        filters.save(lab.home, name, rules)
    except LabError as error:
        return [problem(error.message, error.hint), gr.skip(), gr.skip()]
    said = Markup('<p class="lab-fine">Saved as filters/{}.yaml of the lab home.</p>').format(name.strip())
    return [said, gr.Dropdown(choices=named(lab)), gr.Dropdown(choices=compared(lab, against))]


def _forked(lab: Lab, run_id: str, at: int | None, rules: FilterConfig) -> Markup:
    try:
        with storage_errors():
            lab.store.check_writable()
        new_id = jobs.fork(lab.home, run_id, at or 0, filters.changes(rules))
    except LabError as error:
        return problem(error.message, error.hint)
    told_where = (
        '<p class="lab-fine">{} goes on from iteration {} of {} with this filter: <a href="{}">watch it</a>.</p>'
    )
    return Markup(told_where).format(new_id, at, run_id, address("", run=new_id))


OWN = "the rules it was made with"
PIN = "this filter, as it is now"
PINNED = "{"  # begins the name of a filter that is its rules as JSON


def named(lab: Lab) -> list[str]:
    """The filters there are by name."""
    return [OWN, *filters.PRESETS, *filters.saved(lab.home)]


def compared(lab: Lab, name: str) -> list[Any]:
    """What a filter can be compared with: filters by name, the one that is pinned if `name` is one, and pinning this."""
    return [*named(lab), *([(words_of(name), name)] if name.startswith(PINNED) else []), PIN]


def pinned(rules: FilterConfig) -> str:
    """The name of a filter that is nothing but its rules: those that are not as usual."""
    usual = FilterConfig().model_dump()
    return json.dumps({rule: value for rule, value in rules.model_dump().items() if value != usual[rule]})


def words_of(name: str) -> str:
    """A filter's name as a sentence says it."""
    if not name.startswith(PINNED):
        return name
    rules = _read_pinned(name).model_dump().items()
    told = ", ".join(f"{rule.replace('_', ' ')} {value}" for rule, value in rules if value not in (None, False, []))
    return f"the filter pinned: {told}"[:200]


def _read_pinned(name: str) -> FilterConfig:
    try:
        rules = json.loads(name)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name[:80]!r} is no filter", hint="choose one by its name") from None
    return parse({"filter": rules}, where="the filter to compare with").filter


def by_name(lab: Lab, run_id: str, name: str) -> FilterConfig:
    """The filter of that name, or pinned; the run's own where there is none of it."""
    if name.startswith(PINNED):
        return _read_pinned(name)
    return lab.config(run_id).filter if name in {OWN, ""} else filters.read(lab.home, name)
