"""`synpo-lab serve`: the pages. Like app.py, this command stands beside the layers and knows them all."""

import gc
import socket
from importlib import import_module
from typing import Annotated

import typer

from synpo_lab.cli.output import Home
from synpo_lab.errors import ConfigError


def serve(
    home: Home = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where to listen.")] = 7860,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but start and change nothing.")] = False,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Show the pages in a browser.")] = True,
) -> None:
    """Open the lab in a browser. Runs do not depend on it: close it and they go on."""
    from synpo_lab.home import open_home

    folder = open_home(home, writable=not read_only)
    refuse_taken_port(host, port)
    gc.disable()  # as in app.py
    import_module("pages.lab").serve(folder, host, port, read_only=read_only, open_browser=open_browser)


def refuse_taken_port(host: str, port: int) -> None:
    """Raises ConfigError when nobody can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}", hint=f"choose another, for example `--port {port % 65535 + 1}`"
        ) from None
