"""What a run will take, told before it starts."""

from markupsafe import Markup

from pages.components import joined, problem
from synpo_lab import form
from synpo_lab.errors import LabError
from synpo_lab.home import storage_errors
from synpo_lab.planning import plan
from synpo_lab.planning.gpus import gpu_to_plan_for

ASSUMED = " No GPU that the lab knows is here, so this one is assumed; <code>synpo-lab plan --gpu</code> takes another."


def plan_told(text: str) -> Markup:
    """The plan of the YAML in one line, with advice where it does not fit; or what is wrong with the YAML."""
    try:
        with storage_errors():
            gpu, is_here = gpu_to_plan_for()
            made = plan(form.config_of(text), gpu)
    except LabError as error:
        return problem(error.message, error.hint)
    advice = joined(Markup("<li>{}</li>").format(line) for line in made.advice)
    note = Markup("" if is_here else ASSUMED)
    return Markup('<p class="lab-fine">{}.{}</p><ul>{}</ul>').format(made.line, note, advice)
