"""A data set of the Hugging Face Hub, streamed: the one place of an import that asks the network, since the user did."""

from collections.abc import Iterator
from typing import Any

from storage.errors import StorageFault
from storage.importers.blocks import BLOCK_ROWS, Block, Found, Rows

SPLIT = "train"


def hub_blocks(name: str) -> Iterator[Block]:
    """Rows of "hub:OWNER/NAME[/CONFIG][:SPLIT]" as they come; the split is train where none is named."""
    path, config, split = hub_parts(name)
    rows: list[Found] = []
    for number, row in enumerate(_stream(path, config, split), start=1):
        rows.append(Found(number, row))
        if len(rows) >= BLOCK_ROWS:
            yield Rows(path, "row", rows)
            rows = []
    if rows:
        yield Rows(path, "row", rows)


def hub_parts(name: str) -> tuple[str, str | None, str]:
    """Path, config and split of "hub:OWNER/NAME[/CONFIG][:SPLIT]". StorageFault when it is no such name."""
    path, _, split = name.removeprefix("hub:").partition(":")
    parts = path.split("/")
    if len(parts) not in {2, 3} or not all(part.strip() for part in parts):
        raise StorageFault(f"{name!r} names no data set", hint="for example hub:OWNER/NAME or hub:OWNER/NAME:test")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, split or SPLIT


def _stream(path: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise StorageFault("the package `datasets` is not installed", hint="pip install datasets") from None
    try:
        yield from load_dataset(path, config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        raise StorageFault(
            f"{path} ({split}) cannot be read from the Hub: {error}",
            hint="check the name, the split and the network; `hf auth login` for a private one",
        ) from None
