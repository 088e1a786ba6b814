"""Start an import, and take one away again."""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from storage import RunStore
from storage.importers.source import fingerprint_of
from storage.state import NEEDS_WORKER, read_state
from storage.store import RUN_ID
from synpo_lab.config import RunConfig, parse
from synpo_lab.errors import DataError, RunError
from synpo_lab.home import open_home, open_store, storage_errors
from synpo_lab.importing.plan import AUTO, make_plan
from synpo_lab.importing.summary import IMPORTED, Summary
from synpo_lab.jobs import launch
from synpo_lab.jobs.paths import with_absolute_paths
from synpo_lab.jobs.provenance import stored_config

RECIPE = "import"


def import_config(
    paths: Sequence[str], format: str = AUTO, columns: Mapping[str, str] | None = None, title: str = ""
) -> RunConfig:
    """The config of an import: it keeps every pair, and no model has a part in it."""
    return parse(
        {
            "recipe": RECIPE,
            "title": title or " and ".join(path.rstrip("/").rpartition("/")[2] for path in paths),
            "policy": "none",
            "seeds": "none",
            "iterations": 1,
            "filter": {"min_gap": None, "max_repetition": None},
            "source": {"paths": list(paths), "format": format, "columns": dict(columns or {})},
        }
    )


def mapping_of(text: str) -> dict[str, str]:
    """ "prompt=question, chosen=best" as what is taken from which column. DataError when it is not of that form."""
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    for target, equals, column in parts:
        if not equals or not target.strip() or not column.strip():
            raise DataError(f"{target.strip()!r} is not WHAT=COLUMN", hint="for example prompt=question, chosen=best")
    return {target.strip(): column.strip() for target, _, column in parts}


def default_name(paths: Sequence[str]) -> str:
    """A name for the data set, made of its last file's."""
    last = paths[-1].rstrip("/").rpartition("/")[2].removeprefix("hub:").split(".")[0]
    word = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in last).strip("-")
    return word[:80] or "import"


def start_import(home: Path, name: str, config: RunConfig) -> bool:
    """Start it in a process of its own; False when this very data set is there already, so that nothing is to be added.

    An earlier attempt under the same name that came to nothing makes room. Raises DataError for a file that cannot be
    imported or a name that is taken, StorageError when the home cannot be written.
    """
    _check_name(name)
    source = config.source
    plan = make_plan(source.paths, source.format, source.columns)
    open_home(home)
    with storage_errors():
        store = open_store(home)
        if name in store.runs() and not _make_room(home, store.run(name), config, plan.sources):
            return False
    launch(home, config, name)
    return True


def summary_of(run: RunStore) -> Summary | None:
    """What an import made; None when it has not come to its end."""
    with storage_errors():
        found = run.marker(IMPORTED)
    try:
        return None if found is None else Summary(**found)
    except TypeError:  # of another version of the lab
        return None


def delete_import(home: Path, name: str) -> None:
    """Remove an imported data set and all it holds; readers' notes stay. RunError when it is no import, or at work."""
    with storage_errors():
        run = open_store(open_home(home)).run(name)
        if stored_config(run).recipe != RECIPE:
            raise RunError(
                f"{name} is a run, not an imported data set", hint="only imported data sets are deleted here"
            )
        if read_state(run.folder).state in NEEDS_WORKER:
            raise RunError(f"{name} is being imported", hint=f"stop it first: synpo-lab stop {name}")
        _remove(home, run)


def _check_name(name: str) -> None:
    if not RUN_ID.fullmatch(name):
        raise DataError(
            f"{name!r} cannot name a data set",
            hint="use 1 to 80 of the letters A-Z and a-z, digits and . _ - and begin with no dot",
        )


def _make_room(home: Path, run: RunStore, config: RunConfig, sources: Sequence[Any]) -> bool:
    """Whether there is something to import under this name. DataError when the name belongs to something else."""
    state = read_state(run.folder).state
    if state in NEEDS_WORKER:
        raise DataError(f"{run.run_id} is at work", hint=f"watch it with `synpo-lab status {run.run_id} --follow`")
    made = summary_of(run)
    if stored_config(run).recipe == RECIPE and made is None:
        _remove(home, run)
        return True
    same = stored_config(run).source == with_absolute_paths(config).source if made else False
    if made and same and made.fingerprint == fingerprint_of(sources):
        return False
    what = "data set" if made else "run"
    raise DataError(f"there is a {what} {run.run_id!r} already", hint="choose another --name, or delete that one first")


def _remove(home: Path, run: RunStore) -> None:
    # Renamed first: what is gone half is in nobody's way, and outside `runs` no view reads it.
    gone = home / f".deleted-{run.run_id}-{secrets.token_hex(4)}"
    run.folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
