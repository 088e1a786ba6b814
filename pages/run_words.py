"""What the same thing is called in a run that trains and in an imported data set, which was made by other means."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pages.shell import Lab
from storage.queries.stories import KINDS, ORDERS
from synpo_lab.importing.launching import RECIPE


@dataclass(frozen=True, slots=True)
class RunWords:
    """Words of pages that depend on how the rows were made. Of Lineage: by kind of prompt, then by order."""

    prompts: Mapping[str, str] = field(  # the list
        default_factory=lambda: {"evaluation": "evaluation prompts", "seed": "seeds", "written": "written prompts"}
    )
    answered: Mapping[str, str] = field(default_factory=lambda: KINDS)  # by whom
    ends: Mapping[str, tuple[str, str]] = field(  # the two scores a prompt is listed with
        default_factory=lambda: {
            "evaluation": ("M₀", "latest policy"),
            "seed": ("first draft", "latest draft"),
            "written": ("rejected", "chosen"),
        }
    )
    orders: Mapping[str, str] = field(default_factory=lambda: ORDERS)
    steps: Mapping[str, str] = field(  # of Filter's waterfall: its ends
        default_factory=lambda: {"generated": "prompts generated", "paired": "pairs", "kept": "to train on"}
    )
    roles: Mapping[str, str] = field(default_factory=lambda: {"eval": "policy"})  # of answers, where not their own
    fate: str = "kept pairs are what the policy was trained on"
    is_drafted: bool = True  # a third answer stands beside the two of a pair
    rows_lost: str = "from generated prompts to the pairs a training reads"


TRAINED = RunWords()
IMPORTED = RunWords(
    prompts=dict(TRAINED.prompts) | {"evaluation": "judged prompts", "written": "prompts with a pair"},
    answered=dict(KINDS) | {"evaluation": "two models' answers to it, judged", "written": "both sides of its pair"},
    ends=dict(TRAINED.ends) | {"evaluation": ("opponent", "tested model")},
    orders=ORDERS | {"improved": "widest gain first", "worse": "widest loss first"},
    steps={"generated": "prompts", "paired": "pairs", "kept": "kept"},
    roles={"eval": "answer", "candidate": "answer"},
    fate="as the data set has them",
    is_drafted=False,
    rows_lost="from the prompts of the data set to the pairs kept",
)


def words_of_run(lab: Lab, run_id: str | None) -> RunWords:
    status = lab.run(run_id)
    return IMPORTED if status is not None and status.recipe == RECIPE else TRAINED
