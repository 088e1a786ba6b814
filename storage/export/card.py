"""The README of an exported dataset folder, as the Hub shows it: what the rows are, what made them, how to load them."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

COLUMNS = {
    "prompt": "what was asked",
    "chosen": "the preferred answer",
    "rejected": "the other answer",
    "score_chosen": "the scorer's total for the preferred answer; null when nobody scored it",
    "score_rejected": "the same for the other answer",
    "gap": "score_chosen - score_rejected",
    "iteration": "the round of the run that made the pair",
    "pair_id": "hash of the two answers; the same in the lab",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the card tells of the rows beside it."""

    rows: int
    chat: bool  # texts are lists of messages
    mean_gap: float | None
    longer_chosen: float  # share of rows whose chosen answer is the longer one, 0..1
    mean_chosen: float  # characters
    mean_rejected: float


def dataset_card(run: dict[str, Any], facts: Facts, version: str) -> str:
    """The card of one run's rows. `run`: its row of the view `runs`; no path of this machine is told."""
    config = json.loads(run["config"] or "{}")
    head = yaml.safe_dump(_front_matter(facts), sort_keys=False)
    body = [
        f"# {_line(run['title'] or run['run_id'])}",
        f"{facts.rows:,} preference pairs, {_origin(run)}. Exported by SynPO Lab {version}.",
        _how_made(run, config),
        _numbers(facts),
        _columns(facts),
        _loading(),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(filter(None, body)) + "\n"


def _front_matter(facts: Facts) -> dict[str, Any]:
    size = next((name for most, name in SIZES if facts.rows < most), "n>10M")
    return {
        "task_categories": ["text-generation"],
        "tags": ["preference", "alignment", "synthetic", "trl", "synpo-lab"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }


def _origin(run: dict[str, Any]) -> str:
    if run["recipe"] == "import":
        return "brought into the lab from another source: its licence and its limits hold"
    return f"made by the recipe `{run['recipe']}` without human labels"


def _how_made(run: dict[str, Any], config: dict[str, Any]) -> str:
    if run["recipe"] == "import":
        return ""
    told = {
        "recipe": run["recipe"],
        "policy M_0": _name(str(run["policy"])),
        "scorer": run["scorer"],
        "random seed": run["seed"],
        "iterations": run["iterations"],
    }
    lines = [f"- {name}: {_line(str(value))}" for name, value in told.items() if value not in (None, "")]
    rules = yaml.safe_dump({"filter": config.get("filter", {})}, sort_keys=False).strip()
    return "## How it was made\n\n" + "\n".join(lines) + f"\n\nThe run's own filter:\n\n```yaml\n{rules}\n```"


def _numbers(facts: Facts) -> str:
    gap = "nobody scored them" if facts.mean_gap is None else f"mean gap {facts.mean_gap:.3f}"
    return (
        f"## In numbers\n\n{gap}; the chosen answer is the longer one in {facts.longer_chosen:.1%} of the rows; "
        f"mean length {facts.mean_chosen:,.0f} characters chosen, {facts.mean_rejected:,.0f} rejected."
    )


def _columns(facts: Facts) -> str:
    chat = " (a list of messages with `role` and `content`)" if facts.chat else ""
    texts = {"prompt", "chosen", "rejected"}
    lines = [f"- `{name}`: {meaning}{chat if name in texts else ''}" for name, meaning in COLUMNS.items()]
    return "## Columns\n\n" + "\n".join(lines)


def _loading() -> str:
    return (
        "## Loading\n\n```python\nfrom datasets import load_dataset\n\n"
        'rows = load_dataset("THIS_FOLDER_OR_REPOSITORY", split="train")\n```\n\n'
        "TRL's preference trainers take the rows as they are. The pairs are synthetic: read some before you train on all."
    )


def _name(policy: str) -> str:
    """A hub name as it is; of a folder only its last part."""
    return policy.removeprefix("hub:") if policy.startswith("hub:") else policy.rstrip("/").rpartition("/")[2]


def _line(text: str) -> str:
    """One line that Markdown cannot take for anything but text."""
    return " ".join(text.split()).replace("<", "&lt;").replace("`", "'")[:200]
