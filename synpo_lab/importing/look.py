"""The first phase: what is in the file, what would be taken from where, and what would be refused. Nothing is written."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from storage.importers import Block
from synpo_lab.errors import DataError
from synpo_lab.importing.columns import RowRefused
from synpo_lab.importing.formats import Example
from synpo_lab.importing.plan import AUTO, Plan, Reading, make_plan

SHOWN = 3  # example rows
LISTED, LISTED_OF_A_REASON = 200, 25  # refused rows told one by one
LONGEST_DETAIL = 200
QUICK_ROWS = 100_000  # a longer file is looked at in part
QUICK_ROWS_OF_THE_HUB = 2_000
_JOINED = "Answers of two models to the same prompts: the first file's rejected, the second's chosen"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that is not taken, and why."""

    file: str
    unit: str  # line, item or row
    number: int
    reason: str
    detail: str = ""

    @property
    def place(self) -> str:
        return f"{self.file} {self.unit} {self.number:,}"

    @property
    def why(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(slots=True)
class Tally:
    """What became of the rows."""

    rows: int = 0
    taken: int = 0
    pairs: int = 0
    mended: int = 0  # rows with characters that are not Unicode, now U+FFFD
    unpaired: Counter[str] = field(default_factory=Counter)  # taken rows that make no pair, by reason
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    refusals: list[Refusal] = field(default_factory=list)  # the first ones

    def take(self, example: Example, mended: bool) -> None:
        self.taken += 1
        self.mended += mended
        self.pairs += example.chosen is not None
        if example.unpaired:
            self.unpaired[example.unpaired] += 1

    def refuse(self, refusal: Refusal) -> None:
        self.refused[refusal.reason] += 1
        if len(self.refusals) < LISTED and self.refused[refusal.reason] <= LISTED_OF_A_REASON:
            self.refusals.append(refusal)

    def add(self, other: "Tally") -> None:
        """Count what another block's tally counted."""
        self.rows += other.rows
        self.taken += other.taken
        self.pairs += other.pairs
        self.mended += other.mended
        self.unpaired += other.unpaired
        before = self.refused.copy()
        for refusal in other.refusals:
            self.refuse(refusal)
        self.refused = before + other.refused


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found."""

    plan: Plan
    examples: list[Example]
    tally: Tally
    whole: bool  # every row was looked at
    total: int | None  # rows of the file, where a quick count tells

    @property
    def sentence(self) -> str:
        """How many rows would be taken."""
        tally = self.tally
        parts = [f"{tally.taken:,} of {tally.rows:,} rows can be taken and make {tally.pairs:,} pairs"]
        parts += [f"{count:,} make none: {reason}" for reason, count in tally.unpaired.most_common()]
        if tally.refused:
            parts.append(f"{tally.refused.total():,} refused")
        if tally.mended:
            parts.append(f"{tally.mended:,} with characters that are not Unicode, read as \ufffd")
        if not self.whole:
            of = f" of {self.total:,}" if self.total else ""
            parts.append(f"looked at the first {tally.rows:,}{of}: the rest is checked as it is imported")
        return "; ".join(parts)

    def check(self) -> None:
        """DataError when nothing could be taken."""
        if not self.tally.taken:
            first = self.tally.refusals[0] if self.tally.refusals else None
            said = f"; {first.place}: {first.why}" if first else ""
            raise DataError(
                f"none of the {self.tally.rows:,} rows can be taken{said}",
                hint="name the format (--format; on the page Data: Format), or a column: prompt=COLUMN (--map; Columns)",
            )

    def told(self) -> dict[str, Any]:
        """All of it as plain values."""
        plan, tally = self.plan, self.tally
        return {
            "read_as": " and ".join(f"{source.name} ({source.container})" for source in plan.sources),
            "format": plan.format_told,
            "title": _JOINED if len(plan.sources) == 2 else plan.format.title,
            "columns": plan.taken,
            "unused": list(plan.unused),
            "notes": plan.notes,
            "examples": [_shown(example) for example in self.examples],
            "sentence": self.sentence,
            "rows": tally.rows,
            "taken": tally.taken,
            "pairs": tally.pairs,
            "mended": tally.mended,
            "unpaired": dict(tally.unpaired),
            "refused": dict(tally.refused.most_common()),
            "refusals": [{**asdict(one), "place": one.place, "why": one.why} for one in tally.refusals],
            "whole": self.whole,
            "total": self.total,
        }


def _shown(example: Example) -> dict[str, Any]:
    """An example row as people are shown it."""
    chosen, rejected = example.chosen, example.rejected
    shown: dict[str, Any] = {"prompt": example.prompt}
    if chosen is not None and rejected is not None:
        shown |= {"chosen": chosen.text, "rejected": rejected.text}
        scores = [side.score for side in (chosen, rejected)]
        shown |= {"scores": " and ".join(f"{score:g}" for score in scores if score is not None) or None}
    elif example.answers:
        shown |= {f"answer {number}": said.text for number, said in enumerate(example.answers[:4], start=1)}
    models = [said.model for said in example.answers if said.model]
    return {name: text for name, text in (shown | {"models": ", ".join(models)}).items() if text not in (None, "")}


def look(
    paths: Sequence[str],
    format: str = AUTO,
    columns: Mapping[str, str] | None = None,
    *,
    at_most: int | None = QUICK_ROWS,
) -> Look:
    """Read the file, or its first `at_most` rows, as an import would. Raises DataError or StorageError like `make_plan`."""
    plan = make_plan(paths, format, columns)
    if at_most is not None and plan.sources[0].container == "Hub":
        at_most = min(at_most, QUICK_ROWS_OF_THE_HUB)
    tally, examples, whole = Tally(), list[Example](), True
    for block in plan.blocks():
        for example in read_block(plan.reading, block, tally):
            if len(examples) < SHOWN:
                examples.append(example)
        if at_most is not None and tally.rows >= at_most:
            whole = False
            break
    total = tally.rows if whole else plan.sources[-1].count()
    return Look(plan, examples, tally, whole or total == tally.rows, total)


def read_block(reading: Reading, block: Block, tally: Tally) -> Iterator[Example]:
    """The block's examples; what became of each row is counted."""
    for found in block.rows():
        tally.rows += 1
        try:
            if found.row is None:
                raise RowRefused(found.fault, found.detail)
            example, mended = reading.example(found.row)
        except RowRefused as refused:
            detail = refused.detail[:LONGEST_DETAIL]
            tally.refuse(Refusal(block.file, block.unit, found.number, refused.reason, detail))
            continue
        tally.take(example, mended)
        yield example
