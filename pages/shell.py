"""What all pages share: the lab they look into, the heading with its run picker, and how an event is wired."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from markupsafe import Markup, escape

from pages.components import empty, link, pill, state_pill
from pages.downloads import Downloads
from pages.text import excerpt
from storage.database import Database
from storage.queries import IterationOverview, run_overview
from storage.queries.pairs import run_of_pair
from storage.sandbox import Console
from storage.state import NEEDS_WORKER
from synpo_lab.config import RunConfig, load
from synpo_lab.errors import LabError
from synpo_lab.home import on_a_space, open_home, open_store, storage_errors
from synpo_lab.jobs import RunStatus, Watch, launch
from synpo_lab.jobs.provenance import stored_config
from synpo_lab.jobs.wording import pace, stage_name

Result = TypeVar("Result")

FIRST_RUN = "pocket"
KEPT_ANSWERS = 64
LONGEST_ID = 80  # characters of a run's name that was asked for
OF_STRANGERS = (60, 600)  # look every minute for files uploaded ten minutes ago; of one's own, imports may still read
POLL_SECONDS = 1.0
QUIET = {"api_visibility": "private", "show_progress": "hidden"}  # plumbing: no public API, no flicker
PAGES = {
    "": "Overview",
    "prompts": "Prompts",
    "lineage": "Lineage",
    "pairs": "Pairs",
    "thresholds": "Filter",
    "health": "Health",
    "iterations": "Iterations",
    "compare": "Compare",
    "eye": "Trainer’s eye",
    "disagree": "Disagreement",
    "playground": "Playground",
    "sql": "SQL",
    "data": "Data",
}


class Lab:
    """One lab home as the pages see it, and the app they are put into."""

    def __init__(self, home: Path | None = None, *, read_only: bool = False) -> None:
        self.home = open_home(home, writable=not read_only)
        self.read_only = read_only
        self.store = open_store(self.home, read_only=read_only)
        self.database = Database(self.store)
        self.app = gr.Blocks(
            title="SynPO Lab",
            analytics_enabled=False,
            fill_width=True,
            delete_cache=OF_STRANGERS if read_only else None,
        )
        self.console = Console(self.store)
        self.downloads = Downloads()  # gone when this lab is
        self._watch = Watch(self.home)
        self._one_at_a_time = threading.Lock()  # a Watch reads on from where it was
        self._latest: OrderedDict[object, tuple[object, Any]] = OrderedDict()

    def runs(self) -> list[RunStatus]:
        """Every run's status, the latest made first."""
        with self._one_at_a_time:
            return self._watch.runs()

    def run(self, run_id: str | None) -> RunStatus | None:
        """One run's status; None without an id, or when there is no such run (any more)."""
        if not run_id or run_id not in self.store.runs():
            return None
        with self._one_at_a_time:
            return self._watch.run(run_id)

    def latest(self, name: object, moment: object, ask: Callable[[], Result]) -> Result:
        """What `ask()` gives, asked once for all visitors until `moment` changes. `name` says what is asked."""
        known = self._latest.get(name)
        if known is None or known[0] != moment:
            known = (moment, ask())
            self._latest[name] = known
            while len(self._latest) > KEPT_ANSWERS:
                self._latest.popitem(last=False)
        answer: Result = known[1]
        return answer

    def overview(self, status: RunStatus) -> list[IterationOverview]:
        """The run in numbers, asked for again when it has entered another stage."""
        name = ("overview", status.run_id)
        return self.latest(name, moment_of(status), lambda: run_overview(self.database, status.run_id))

    def config(self, run_id: str) -> RunConfig:
        """The run's config, read again when its file has changed. LabError when it cannot be read."""
        with storage_errors():
            run = self.store.run(run_id)
            return self.latest(("config", run_id), stamp_of(run.folder / "run.yaml"), lambda: stored_config(run))

    def is_toy(self, run_id: str | None) -> bool:
        """Whether the run aligns the pocket world's model."""
        return run_id is not None and self.latest(("toy", run_id), None, lambda: self._aligns_pocket(run_id))

    def _aligns_pocket(self, run_id: str) -> bool:
        try:
            return self.config(run_id).policy == "pocket"
        except LabError:
            return False

    def close(self) -> None:
        """Let go of the files and processes it holds."""
        self.console.close()
        self.database.close()

    def start_first_run(self) -> str | None:
        """Start the built-in run when the home has none at all. Returns its id, None when there was one.

        A Space starts it too, though its visitors may start nothing: it is what they look at.
        """
        if self.store.runs() or (self.read_only and not on_a_space()):
            return None
        return launch(self.home, load(FIRST_RUN), name=FIRST_RUN)


@dataclass(frozen=True, slots=True)
class Selection:
    """What the address asks for."""

    run_id: str | None
    query: dict[str, str]

    def whole(self, name: str) -> int | None:
        """A whole number of the address; None when it is not there, or is none."""
        text = self.query.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 10 else None


def selection(lab: Lab, request: gr.Request) -> Selection:
    """The run named in the address if there is such a run; else that of the pair or prompt named; else one at work, or
    the newest. A visitor who asked for a run that is not there is told.
    """
    query = dict(request.query_params) if request else {}
    runs = lab.runs()
    ids = [status.run_id for status in runs]
    asked = query.get("run")
    if asked not in ids and ({"pair", "prompt"} & query.keys()):
        asked = run_of_pair(lab.database, pair_id=query.get("pair"), prompt_id=query.get("prompt"))
    if asked in ids:
        return Selection(asked, query)
    chosen = _most_alive(runs)
    if query.get("run"):
        gr.Warning(_no_such_run(query["run"], chosen), title="No such run", duration=None)
    return Selection(chosen, query)


def _most_alive(runs: Sequence[RunStatus]) -> str | None:
    """A run that is at work before one that waits, that before what has ended; of these, the newest."""
    at_work = [run.run_id for run in runs if run.state in {"running", "stopping"}]
    waiting = [run.run_id for run in runs if run.state == "queued"]
    return next(iter([*at_work, *waiting, *(run.run_id for run in runs)]), None)


def _no_such_run(asked: str, chosen: str | None) -> str:
    instead = f"this is {chosen}" if chosen else "there is none yet"
    return str(escape(f"this lab home has no run “{excerpt(asked, LONGEST_ID)}”: {instead}"))


_THEME_SWITCH = Markup(
    '<button type="button" class="lab-theme" data-theme-switch title="light or dark" aria-label="light or dark">'
    "◐</button>"
)


def title_html(title: str, lead: object) -> Markup:
    return Markup("<h1>{}</h1><p>{}</p>{}").format(title, lead, _THEME_SWITCH)


def heading(title: str, lead: object) -> gr.Dropdown:
    """A page's title and the run picker."""
    return heading_parts(title, lead)[1]


def heading_parts(title: str, lead: object) -> tuple[gr.HTML, gr.Dropdown]:
    """`heading`, for a page whose title depends on what is picked: the title too, `title_html` is its value."""
    gr.Navbar(main_page_name=PAGES[""])
    with gr.Row(elem_classes="lab-head"):
        head = gr.HTML(title_html(title, lead), elem_classes="lab-title")
        picker = gr.Dropdown(label="Run", choices=[], interactive=True, elem_id="run-picker", scale=0, min_width=320)
    # The address is the truth about the selection: what is picked goes there, and from there to other pages.
    picker.input(None, picker, None, js="(run) => { labAddress({run, iteration: null, pair: null}); }", **QUIET)
    return head, picker


def picked(lab: Lab, run_id: str | None) -> Any:
    """The run picker's update: every run, and the one that is selected."""
    choices = [(run_label(status), status.run_id) for status in lab.runs()]
    return gr.Dropdown(choices=choices, value=run_id)


def run_label(status: RunStatus) -> str:
    return f"{status.run_id} · {status.recipe}" if status.recipe else status.run_id


def run_line(status: RunStatus | None, toy: bool) -> Markup:
    """One line about the run under a page's title."""
    if status is None:
        return Markup("")
    stage = stage_name(status.stage, status.iteration, status.iterations) if status.state in NEEDS_WORKER else ""
    told = " · ".join(filter(None, [status.title, stage, pace(status) if stage else ""]))
    badge = pill("toy model", "toy", "the pocket world's: tiny, and honest about it") if toy else ""
    return Markup('<p class="lab-line">{} {} {}</p>').format(state_pill(status.state, status.message), told, badge)


def line_of(lab: Lab, run_id: str | None) -> Markup:
    return run_line(lab.run(run_id), lab.is_toy(run_id))


def no_runs(lab: Lab) -> Markup:
    """What a page says in a home without runs."""
    if lab.read_only:
        return empty("No run here", "This lab is open read-only. A run is started with “synpo-lab run pocket”.")
    start, design = link("", "overview"), link("iterations", "Iterations", new=1)
    return empty(
        "No run yet",
        Markup(
            "Start a pocket run on the {}: it takes minutes on a laptop, and you can watch. "
            "Or design your own under {}."
        ).format(start, design),
    )


def nothing_yet(status: RunStatus | None, what: str, when: str) -> Markup:
    """What a page says of a run that has not come so far: what is missing and when it comes."""
    if status is not None and status.state in NEEDS_WORKER:
        stage = stage_name(status.stage, status.iteration, status.iterations) or "getting ready"
        return empty(
            f"No {what} yet", Markup("{} The run is at “{}” now; this page fills by itself.").format(when, stage)
        )
    if status is not None and status.state == "imported":
        return empty(
            f"No {what} in this data set",
            Markup("It was imported, and its file has none. See {}, or pick another one above.").format(
                link("data", PAGES["data"])
            ),
        )
    return empty(
        f"No {what} in this run",
        Markup("{} Resume the run under {}, or pick another one above.").format(when, link("iterations", "Iterations")),
    )


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def moment_of(status: RunStatus) -> tuple[object, ...]:
    """What changes when a stage ends or the run does: when numbers of whole stages may have changed."""
    return (status.run_id, status.state, status.iteration, status.stage)


def is_alive(status: RunStatus | None) -> bool:
    return status is not None and status.state in NEEDS_WORKER


def on_load(lab: Lab, handler: Callable[..., Any], outputs: Sequence[Any]) -> None:
    """Run `handler(request)` when the page opens."""
    lab.app.load(handler, None, list(outputs), **QUIET)


def follow(
    lab: Lab,
    picker: gr.Dropdown,
    line: gr.HTML,
    has_rows: Callable[[str | None], bool],
    fill: Callable[[Selection], list[Any]],
    outputs: Sequence[Any],
) -> None:
    """Fill `outputs` by `fill` when the page opens, when another run is picked, and once a live run has rows.

    What the run is and whether it has rows is asked before the rows themselves: rows that come in between are shown at
    the next look, and none can come after a run has ended.
    """
    filled, timer = gr.State(False), gr.Timer(POLL_SECONDS, active=False)

    def now(run_id: str | None) -> tuple[bool, bool]:
        alive = is_alive(lab.run(run_id))
        return alive, has_rows(run_id)

    @told
    def open_page(request: gr.Request) -> list[Any]:
        asked = selection(lab, request)
        return [picked(lab, asked.run_id), *show(asked)]

    @told
    def pick(run_id: str | None) -> list[Any]:
        return show(Selection(run_id, {}))

    def show(asked: Selection) -> list[Any]:
        alive, has = now(asked.run_id)
        return [line_of(lab, asked.run_id), has, gr.Timer(active=alive), *fill(asked)]

    @told
    def tick(run_id: str | None, was_filled: bool) -> list[Any]:
        alive, has = now(run_id)
        wanted = not was_filled and (has or not alive)
        rows = fill(Selection(run_id, {})) if wanted else [gr.skip()] * len(outputs)
        return [line_of(lab, run_id), was_filled or has, gr.Timer(active=alive), *rows]

    shown = [line, filled, timer, *outputs]
    on_load(lab, open_page, [picker, *shown])
    # What was asked of the run before is asked of this one no longer.
    picker.input(None, picker, None, js="(run) => { labForget(['run', 'tab', '__theme']); }", **QUIET)
    picker.input(pick, picker, shown, **QUIET)
    timer.tick(tick, [picker, filled], shown, **QUIET)


def edited(component: Any) -> Any:
    """The event of a visitor changing a component.

    A Textbox says `input` only of key presses that write (gradio 6.31), not of pasting and deleting: there it is
    `change`, which also comes when we change it, so its handler must have nothing to do then.
    """
    return component.change if isinstance(component, gr.Textbox) else component.input


def told(handler: Callable[..., Result]) -> Callable[..., Result]:
    """Show what a LabError says, and what to do, in the page's corner instead of a traceback."""

    @functools.wraps(handler)
    def shown(*args: Any, **kwargs: Any) -> Result:
        try:
            with storage_errors():
                return handler(*args, **kwargs)
        except LabError as error:
            raise gr.Error(_toast(error), title="This did not work", duration=None, print_exception=False) from error

    return shown


def acting(lab: Lab, handler: Callable[..., Result]) -> Callable[..., Result]:
    """`told`, for a handler that starts, changes or sends something, or reads what its caller names by path or URL.

    In a lab open read-only it is refused, whoever calls: a server runs a handler also where its button is hidden.
    """

    @functools.wraps(handler)
    def guarded(*args: Any, **kwargs: Any) -> Result:
        lab.store.check_writable()
        return handler(*args, **kwargs)

    return told(guarded)


def _toast(error: LabError) -> str:
    hint = Markup("<br><b>hint</b> {}").format(error.hint) if error.hint else ""
    return str(escape(error.message) + hint)


def fresh(panels: Sequence[tuple[object, Callable[[], Any]]], seen: list[int]) -> tuple[list[Any], list[int]]:
    """Draw only what has changed. A panel is (what it shows, how to draw that); `seen` is what was returned before."""
    keys = [hash(repr(shows)) for shows, _ in panels]
    before: Sequence[int | None] = seen or [None] * len(keys)
    drawn = [gr.skip() if key == old else draw() for (_, draw), key, old in zip(panels, keys, before, strict=True)]
    return drawn, keys
