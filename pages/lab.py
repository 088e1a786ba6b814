"""The lab as one app: its pages put together, and shown."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import gradio as gr
from gradio.routes import App

from pages import (
    compare,
    data,
    disagree,
    eye,
    health,
    iterations,
    lineage,
    overview,
    pairs,
    playground,
    prompts,
    sql,
    thresholds,
)
from pages.shell import PAGES, Lab
from pages.theme import instrument
from synpo_lab.errors import ConfigError, LabError
from synpo_lab.home import for_looking_only

HERE = Path(__file__).parent
OTHERS = {
    "prompts": prompts,
    "lineage": lineage,
    "pairs": pairs,
    "thresholds": thresholds,
    "health": health,
    "iterations": iterations,
    "compare": compare,
    "eye": eye,
    "disagree": disagree,
    "playground": playground,
    "sql": sql,
    "data": data,
}


def build(home: Path | None = None, *, read_only: bool = False) -> gr.Blocks:
    """The app over a lab home (default: $SYNPO_LAB_HOME or the user's). Its `lab` is the Lab it shows.

    Read-only where that is asked for, and on a Space (`synpo_lab.home.for_looking_only`).
    """
    lab = Lab(home, read_only=read_only or for_looking_only())
    app = lab.app
    with _no_web_app_yet():
        with app:
            overview.build(lab)
        for path, page in OTHERS.items():
            with app.route(PAGES[path], f"/{path}"):
                page.build(lab)
    app.queue(default_concurrency_limit=8)
    app.lab = lab
    return app


@contextmanager
def _no_web_app_yet() -> Iterator[None]:
    """Gradio makes a web app at the end of each page, to be thrown away at the end of the next: 13 pages take a second and
    a half. `queue` makes one of all pages."""
    with patch.object(App, "create_app", return_value=None):
        yield


def show(
    app: gr.Blocks,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    open_browser: bool = False,
    once_open: Callable[[], object] = lambda: None,
) -> None:
    """Serve the app until it is stopped; call `once_open` when the first page can be had.

    ConfigError when the port is taken.
    """
    try:
        app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            theme=instrument(),
            head=_head(),
            favicon_path=HERE / "favicon.svg",
            footer_links=["gradio"],
            ssr_mode=False,
            share=False,
            max_file_size="100mb" if app.lab.read_only else None,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}", hint=f"choose another, for example `--port {port % 65535 + 1}`"
        ) from None
    gc.freeze()  # what was loaded stays: no collection needs to look at it
    gc.enable()
    sys.stdout.write(f"SynPO Lab is at http://{host}:{port}\nCtrl-C closes the pages; runs go on without them.\n")
    sys.stdout.flush()
    once_open()
    app.block_thread()


def _head() -> str:
    """Our script and style. Not given as `css`: gradio rewrites that, and spoils what stands in @media."""
    style = (HERE / "theme.css").read_text(encoding="utf-8")
    return f"{(HERE / 'head.html').read_text(encoding='utf-8')}<style>\n{style}</style>\n"


def serve(
    home: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    read_only: bool = False,
    open_browser: bool = False,
) -> None:
    """`synpo-lab serve`: the app over a home, until it is stopped. Starts no run."""
    show(build(home, read_only=read_only), host, port, open_browser=open_browser)


def open_demo(app: gr.Blocks) -> None:
    """What `app.py` does: serve the app, and start the built-in run in a home that has none.

    Listens to this machine only, unless gradio's own variables (a Space sets them) say otherwise.
    """
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    try:
        show(app, host, port, once_open=lambda: _start_first_run(app.lab))
    except LabError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def _start_first_run(lab: Lab) -> None:
    try:
        lab.start_first_run()
    except LabError as error:  # the pages are of use without it
        sys.stderr.write(f"error: no run was started: {error}\n")
