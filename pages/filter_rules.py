"""The widgets of a filter: one per rule, with the numbers they cut, and how an address says a filter."""

import math
from abc import ABCMeta
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import gradio as gr

from storage.queries import Histogram, PairFilter
from synpo_lab.config import FilterConfig, parse
from synpo_lab.errors import ConfigError

OFF = "off"  # in an address: this rule of the run is off
VERDICTS = [("bad", "bad"), ("the rejected answer is better", "rejected"), ("a tie", "tie")]


@dataclass(frozen=True, slots=True)
class Cut:
    """One numeric rule: a switch and a slider."""

    rule: str
    words: str
    first: float  # where the slider stands before anybody moved it


@dataclass(frozen=True, slots=True)
class Group:
    """The rules that cut one number, and that number in words."""

    title: str
    unit: str
    cuts: tuple[Cut, ...]
    step: str = "0.01"
    low: str = "0"  # what the sliders span where no pair has the number
    high: str = "1"


GROUPS = {
    "gap": Group(
        "Gap",
        "score(chosen) − score(rejected)",
        (Cut("min_gap", "keep above", 0.02), Cut("max_gap", "drop above", 1.0)),
        step="0.005",
    ),
    "chosen_score": Group(
        "Score of the chosen answer", "score", (Cut("min_chosen_score", "drop below", 0.0),), step="0.005"
    ),
    "length_ratio": Group(
        "Length ratio",
        "len(chosen) / len(rejected), in doublings",
        (Cut("min_length_ratio", "drop below", 0.5), Cut("max_length_ratio", "drop above", 2.0)),
        step="0.05",
        low="0.05",
        high="10",
    ),
    "repetition": Group(
        "Repetition", "share of the chosen answer that repeats itself", (Cut("max_repetition", "drop above", 0.5),)
    ),
    "similarity": Group(
        "Sides alike", "share of words both sides have in common", (Cut("max_similarity", "drop above", 0.95),)
    ),
}
CUTS = [cut for group in GROUPS.values() for cut in group.cuts]
OTHERS = ("drop_duplicates", "verdicts", "where")


@dataclass(frozen=True, slots=True)
class RuleWidgets:
    """The components, for a page to wire."""

    histograms: dict[str, gr.HTML]
    switches: dict[str, gr.Checkbox]
    sliders: dict[str, gr.Slider]
    others: dict[str, Any]

    @property
    def inputs(self) -> list[Any]:
        """What `rules_of` reads and `updates` fills, in its order."""
        return [*self.switches.values(), *self.sliders.values(), *self.others.values()]


def _within(self: Any, payload: float) -> float:
    """A number beyond an end means that end, as the browser shows it a moment later. Gradio's own slider refuses it with
    an error, so the page would go on showing the cut before it."""
    return float(gr.Slider.preprocess(self, min(max(payload, self.minimum), self.maximum)))


# A subclass of Slider, drawn as one. Not by a class statement: Gradio's metaclass would write a .pyi file beside this one.
CutSlider: Any = ABCMeta.__new__(
    type(gr.Slider),
    "CutSlider",
    (gr.Slider,),
    {"preprocess": _within, "is_template": True, "__module__": __name__},
)


def rule_widgets() -> RuleWidgets:
    """Lay the rules out: a card per number, then the rules that cut none."""
    histograms, switches, sliders = {}, {}, {}
    with gr.Row(elem_classes="lab-rules"):
        for number, group in GROUPS.items():
            with gr.Column(elem_classes="lab-card lab-rule", min_width=300):
                histograms[number] = gr.HTML(elem_id=f"histogram-{number.replace('_', '-')}")
                for cut in group.cuts:
                    with gr.Row(elem_classes="lab-rule-cut"):
                        switches[cut.rule], sliders[cut.rule] = _cut(cut, group)
        with gr.Column(elem_classes="lab-card lab-rule", min_width=300):
            others = _others()
    return RuleWidgets(histograms, switches, sliders, others)


def _cut(cut: Cut, group: Group) -> tuple[gr.Checkbox, gr.Slider]:
    name = cut.rule.replace("_", "-")
    told = f"{group.title}: {cut.words}"
    switch = gr.Checkbox(label=cut.words, elem_id=f"on-{name}", container=False, scale=0, min_width=112)
    slider = CutSlider(
        label=told,
        value=cut.first,
        minimum=float(group.low),
        maximum=float(group.high),
        step=float(group.step),
        elem_id="cut" if cut.rule == "min_gap" else f"cut-{name}",
        show_label=False,
        buttons=[],
        container=False,
        min_width=160,
    )
    return switch, slider


def _others() -> dict[str, Any]:
    duplicates = gr.Checkbox(label="drop pairs seen before in the run", elem_id="drop-duplicates", container=False)
    verdicts = gr.CheckboxGroup(
        VERDICTS, label="Drop pairs that a reader judged", elem_id="drop-verdicts", container=False
    )
    where = gr.Textbox(
        label="Keep only where (SQL over the columns of pairs)",
        placeholder="len_chosen < 800 AND prompt NOT LIKE '%poem%'",
        elem_id="where",
        lines=1,  # of two, Enter would begin the second
        max_lines=6,
        info="press Enter to apply",
        submit_btn=False,
    )
    return {"drop_duplicates": duplicates, "verdicts": verdicts, "where": where}


def rules_of(values: Sequence[Any]) -> FilterConfig:
    """The filter the widgets say. ConfigError when it cannot be."""
    switches, sliders, others = values[: len(CUTS)], values[len(CUTS) : 2 * len(CUTS)], values[2 * len(CUTS) :]
    rules = {cut.rule: slider if on else None for cut, on, slider in zip(CUTS, switches, sliders, strict=True)}
    try:
        return parse({"filter": rules | dict(zip(OTHERS, others, strict=True))}, where="this filter").filter
    except ConfigError as error:  # its hint is about a file of keys
        raise ConfigError(error.message, hint="mend the rule that is named, or empty its field") from None


def updates(rules: FilterConfig, found: Mapping[str, Histogram] | None = None) -> list[Any]:
    """What the widgets show for a filter; with histograms also what they span."""
    values = [getattr(rules, cut.rule) for cut in CUTS]
    switches = [value is not None for value in values]
    sliders = [
        _slider(number, cut, getattr(rules, cut.rule), found) for number, group in GROUPS.items() for cut in group.cuts
    ]
    return [*switches, *sliders, rules.drop_duplicates, rules.verdicts, rules.where or ""]


def _slider(number: str, cut: Cut, value: float | None, found: Mapping[str, Histogram] | None) -> Any:
    if found is None:
        return gr.skip() if value is None else value
    low, high = span(number, found[number], value)
    first = min(max(cut.first, low), high)
    return gr.Slider(minimum=low, maximum=high, value=first if value is None else value)


def span(number: str, found: Histogram, value: float | None = None) -> tuple[float, float]:
    """From where to where a number is cut: over all there is, and over the value chosen."""
    group = GROUPS[number]
    ends = found.edges[:1] + found.edges[-1:]
    if number == "length_ratio":
        ends = [min(max(2**end, 0.01), 1_000.0) for end in ends]
    known = [Decimal(end) for end in (*ends, *([] if value is None else [value]))] or [
        Decimal(group.low),
        Decimal(group.high),
    ]
    unit = Decimal("0.01")
    low, high = min(known).quantize(unit, ROUND_FLOOR), max(known).quantize(unit, ROUND_CEILING)
    return float(low), float(max(high, low + Decimal(group.step)))


def place(number: str, value: float) -> float:
    """Where a value lies on the axis of its histogram."""
    return math.log2(value) if number == "length_ratio" else value


def told(number: str, at: float) -> str:
    """A place on the axis of a histogram in words."""
    if number != "length_ratio":
        return f"{at:.3g}"
    return f"{2**at:,.0f}×" if 2**at >= 100 else f"{2**at:.2g}×"


def pair_rules(rules: FilterConfig) -> PairFilter:
    """The filter as queries take it."""
    return PairFilter(**rules.model_dump())


def asked_rules(query: Mapping[str, str], stored: FilterConfig) -> tuple[FilterConfig, str]:
    """The filter an address asks for, starting from the run's own; and what in it made no sense, in words."""
    told, faults = told_rules(query)
    return FilterConfig.model_validate(stored.model_dump() | told), "\n".join(faults)


def told_rules(query: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The rules an address names, by name; and what is wrong with those that are none."""
    rules: dict[str, Any] = {}
    faults: list[str] = []
    for name in (name for name in FilterConfig.model_fields if name in query):
        try:
            parsed = parse({"filter": {name: _read(name, query[name])}}, where=name).filter
            rules[name] = getattr(parsed, name)
        except ConfigError as error:
            faults.append(error.message)
        except ValueError:
            faults.append(f"{name}: {query[name][:80]!r} is no number")
    return rules, faults


def written_rules(rules: FilterConfig, stored: FilterConfig) -> dict[str, str | None]:
    """The address's values for a filter: `asked_rules` of them gives it again. None: not in the address."""
    ours, theirs = rules.model_dump(), stored.model_dump()
    return {name: None if ours[name] == theirs[name] else _written(ours[name]) for name in ours}


def _read(name: str, text: str) -> Any:
    if name == "verdicts":
        return [] if text == OFF else text.split(",")
    if name == "drop_duplicates":
        return text not in {OFF, "0", "false"}
    if text == OFF:
        return None
    return text if name == "where" else float(text)


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value) or OFF
    if isinstance(value, bool):
        return "1" if value else OFF
    return OFF if value is None else str(value) if isinstance(value, str) else repr(value)
