"""What a check says, and the report of all of them: values that go to JSON and back."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Judgement = Literal["fine", "look", "trouble", "unknown"]
WORDS: dict[Judgement, str] = {
    "fine": "fine",
    "look": "look into it",
    "trouble": "trouble",
    "unknown": "cannot be told",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars. `labels` name them, or the bins between `labels` where there is one more label than heights."""

    title: str
    x: str  # axis name with its unit
    y: str
    labels: list[str]
    heights: list[float]
    marked: list[int] = field(default_factory=list)  # bars the check is about


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's answer. The same pairs are `findings` of kind `name`, where it points at pairs at all."""

    name: str
    group: str
    meaning: str  # one sentence: what it is and why it matters
    number: float | None  # in `unit`; None where it cannot be told
    unit: str  # "pairs", "% of pairs", ...
    share: float | None  # of the pairs looked at that are kept (of all where none is), 0 to 1
    judgement: Judgement
    threshold: str  # how the number was judged
    advice: str  # what to do
    found: int | None = None  # pairs it points at, kept or not; None: it points at none
    found_kept: int | None = None  # of these, kept
    looked_at: int = 0  # pairs
    of: int = 0  # pairs there are
    low: float | None = None  # 95 % interval of `number`
    high: float | None = None
    note: str = ""  # what it could not see, or why it cannot be told
    plot: Plot | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of a run, and what they looked at."""

    run_id: str
    at: float  # seconds since 1970, UTC
    pairs: int
    kept: int
    texts_read: int  # pairs whose texts were read; the checks of texts looked at these
    evaluation: list[str]  # where the evaluation prompts came from
    seconds: float  # how long it took
    checks: list[CheckResult]
    edits: dict[str, int] = field(default_factory=dict)  # kind of finding, "edit: corrected", ... -> pairs
    replaced: list[tuple[str, str, int]] = field(default_factory=list)  # (before, after, times): commonest small edits

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check(self, name: str) -> CheckResult:
        """The check of that name; KeyError when there is none."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)


def from_json(value: dict[str, Any]) -> Report:
    """A report as `to_json` gave it. TypeError or KeyError when it is none, or one of another version."""
    checks = [CheckResult(**check | {"plot": check["plot"] and Plot(**check["plot"])}) for check in value["checks"]]
    replaced = [(before, after, times) for before, after, times in value["replaced"]]
    return Report(**value | {"checks": checks, "replaced": replaced})


def as_markdown(report: Report) -> str:
    """The report as a document for people."""
    rows = [_markdown_row(check) for check in report.checks]
    lines = [
        f"# Health of {report.run_id}",
        "",
        scope(report),
        "",
        "| check | number | share of kept pairs | judgement | judged by | what to do |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {sentence}" for sentence in edits_told(report)),
    ]
    return "\n".join(lines) + "\n"


def edits_told(report: Report) -> list[str]:
    """What changed from one answer to the other, the most frequent first."""
    told = []
    for prefix, what in (
        ("edit: ", "From rejected to chosen"),
        ("draft edit: ", "From the draft to the improved answer"),
    ):
        mine = {kind.removeprefix(prefix): n for kind, n in report.edits.items() if kind.startswith(prefix)}
        if total := sum(mine.values()):
            counted = sorted(mine.items(), key=lambda item: -item[1])
            told.append(f"{what}: " + ", ".join(f"{kind} {n:,} ({n / total:.1%})" for kind, n in counted) + ".")
    if report.replaced:
        phrases = "; ".join(f"{old or '(nothing)'} → {new or '(nothing)'} ({n:,})" for old, new, n in report.replaced)
        told.append(f"Exchanged most often in small edits: {phrases}.")
    return told


def as_json_text(report: Report) -> str:
    return json.dumps(report.to_json(), ensure_ascii=False, indent=1)


def scope(report: Report) -> str:
    """In a sentence: which pairs the report is about."""
    told = f"{report.pairs:,} pairs, {report.kept:,} of them kept; shares are of the kept ones."
    if not report.kept and report.pairs:
        told = f"{report.pairs:,} pairs, none of them kept; shares are of all."
    if report.texts_read < report.pairs:
        told += (
            f" The checks of texts, and `surface disagrees` which needs them, read {report.texts_read:,} pairs drawn at"
            " random; all others looked at every pair."
        )
    return told


def shown_number(check: CheckResult) -> str:
    """The number with its interval, without its unit."""
    if check.number is None:
        return "–"
    told = _plain(check.number, check.unit)
    if check.low is None or check.high is None:
        return told
    return f"{told} ({_plain(check.low, check.unit)} to {_plain(check.high, check.unit)})"


def worst_first(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """What needs attention first, otherwise as they are."""
    order = {"trouble": 0, "look": 1, "fine": 2, "unknown": 3}
    return sorted(checks, key=lambda check: order[check.judgement])


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: float, unit: str) -> str:
    if unit == "pairs":
        return f"{value:,.0f}"
    return f"{value:.1f}" if unit.startswith("%") else f"{value:.3f}"


def _markdown_row(check: CheckResult) -> str:
    share = "" if check.share is None else f"{check.share:.2%}"
    advice = f"{check.advice} ({check.note})" if check.note else check.advice
    cells = [check.name, f"{shown_number(check)} {check.unit}", share, WORDS[check.judgement], check.threshold, advice]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
