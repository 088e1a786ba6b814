"""The command line with workers that only count (see ../jobs/counting_worker.py); called as `synpo-lab` would be."""

import sys
from pathlib import Path

from synpo_lab.cli import main
from synpo_lab.jobs import launching

launching.WORKER = (sys.executable, "-P", str(Path(__file__).parents[1] / "jobs" / "counting_worker.py"))

if __name__ == "__main__":
    main()
