"""What a fork's numbers say of it, and what of its parent."""

from markupsafe import Markup

from pages.components import link
from synpo_lab.jobs import RunStatus


def fork_told(run: RunStatus) -> Markup:
    """Whose policies, and which pairs, the rows of a fork are about; nothing of other runs."""
    origin = run.parent
    if origin is None:
        return Markup("")
    told = [Markup("{} is a fork of {} at M<sub>{}</sub>.").format(
        run.run_id, link("", origin.run_id, run=origin.run_id), origin.iteration
    )]  # fmt: skip
    if origin.iteration > 1:
        told.append(_taken_over(origin.iteration - 1))
    if len(origin.decided_again) > 1:
        told.append(
            Markup(
                "The pairs kept there are what its own filter says now, for M<sub>{}</sub> to train on; its parent "
                "trained them on what it kept itself."
            ).format(origin.iteration)
        )
    return Markup('<p class="lab-none">{}</p>').format(Markup(" ").join(told))


def _taken_over(last: int) -> Markup:
    if last == 1:
        return Markup("Its M<sub>1</sub> is its parent’s.")
    return Markup("Its M<sub>1</sub> to M<sub>{}</sub> are its parent’s.").format(last)
