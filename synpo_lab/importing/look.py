"""The first phase: what is in the file, what would be taken from where, and what would be refused. Nothing is written."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from storage.importers import Block
from synpo_lab.importing.columns import RowRefused
from synpo_lab.importing.formats import Example
from synpo_lab.importing.plan import AUTO, Plan, Reading, make_plan

SHOWN = 3  # example rows
LISTED, LISTED_OF_A_REASON = 200, 25  # refused rows told one by one
LONGEST_DETAIL = 200
QUICK_ROWS = 100_000  # a longer file is looked at in part


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


def look(
    paths: Sequence[str],
    format: str = AUTO,
    columns: Mapping[str, str] | None = None,
    *,
    at_most: int | None = QUICK_ROWS,
) -> Look:
    """Read the file, or its first `at_most` rows, as an import would. Raises DataError or StorageError like `make_plan`."""
    plan = make_plan(paths, format, columns)
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
