"""Is a run's preference data sound? Checks over its pairs, ours or imported: one file per idea.

`check_run(home, run_id)` runs all checks, writes the pairs they point at as `Finding` records and the report as the
run's marker "health"; `stored_report(run)` reads it back.
"""

from synpo_lab.health.checkup import check_run, pairs_since, stored_report
from synpo_lab.health.report import CheckResult, Plot, Report

__all__ = ["CheckResult", "Plot", "Report", "check_run", "pairs_since", "stored_report"]
