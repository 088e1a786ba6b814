"""Background runs: start, watch, stop, resume, fork. Each lives in a process and a folder of its own."""

from synpo_lab.jobs.forking import fork, iterations_to_fork
from synpo_lab.jobs.launching import launch, new_run_id, resume
from synpo_lab.jobs.stopping import stop
from synpo_lab.jobs.watching import RunStatus, Watch, log_tail, status

__all__ = [
    "RunStatus",
    "Watch",
    "fork",
    "iterations_to_fork",
    "launch",
    "log_tail",
    "new_run_id",
    "resume",
    "status",
    "stop",
]
