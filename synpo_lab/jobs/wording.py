"""A run's status in words."""

from synpo_lab.jobs.watching import RunStatus


def duration(seconds: float) -> str:
    """For people: "8 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def stage_name(stage: str, iteration: int | None, iterations: int | None = None) -> str:
    """ "iteration 2/4, draft"; what comes before the iterations has only its own name."""
    if not stage or not iteration:
        return stage
    return f"iteration {iteration}/{iterations}, {stage}" if iterations else f"iteration {iteration}, {stage}"


def pace(status: RunStatus) -> str:
    """How far and how fast: "120/512, 40/s, 10 s left, run: 5 min 00 s left". What is not known is left out."""
    if status.done is None:
        return ""
    parts = [f"{status.done:,}/{status.total:,}" if status.total else f"{status.done:,}"]
    if status.rate is not None:
        parts.append(f"{status.rate:.3g}/s")
    if status.seconds_left is not None:
        parts.append(f"{duration(status.seconds_left)} left")
    if status.run_seconds_left is not None:
        parts.append(f"run: {duration(status.run_seconds_left)} left")
    return ", ".join(parts)
