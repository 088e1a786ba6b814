"""What an import made, as the run's folder keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from synpo_lab.importing.look import Refusal, Tally
from synpo_lab.importing.plan import Plan

IMPORTED = "imported"  # the marker that is written last


@dataclass(frozen=True, slots=True)
class Summary:
    """An import in numbers."""

    format: str
    container: str
    columns: dict[str, str]  # what was taken -> column
    read: int  # rows of the file
    taken: int
    mended: int  # rows with characters that are not Unicode, now U+FFFD
    duplicates: int  # pairs that stand in the file more than once
    unpaired: dict[str, int]  # rows that were taken and make no pair, by reason
    refused: dict[str, int]  # rows by reason
    refusals: list[dict[str, Any]]  # the first ones: file, unit, number, reason, detail
    rows: dict[str, int]  # by table
    fingerprint: str  # of the files' bytes
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan, tally: Tally, rows: Mapping[str, int], duplicates: int, fingerprint: str) -> Self:
        return cls(
            format=plan.format_told,
            container=plan.sources[0].container,
            columns=plan.taken,
            read=tally.rows,
            taken=tally.taken,
            mended=tally.mended,
            duplicates=duplicates,
            unpaired=dict(tally.unpaired.most_common()),
            refused=dict(tally.refused.most_common()),
            refusals=[asdict(refusal) for refusal in tally.refusals],
            rows=dict(rows),
            fingerprint=fingerprint,
            notes=plan.notes,
        )

    @property
    def listed(self) -> list[Refusal]:
        """The refused rows that are told one by one."""
        return [Refusal(**refusal) for refusal in self.refusals]

    @property
    def sentence(self) -> str:
        made = ", ".join(f"{count:,} {table}" for table, count in sorted(self.rows.items()))
        refused = sum(self.refused.values())
        return f"{self.taken:,} of {self.read:,} rows taken: {made}" + (f"; {refused:,} refused" if refused else "")
