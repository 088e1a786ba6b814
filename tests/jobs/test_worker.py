import subprocess
import sys

FORKS = """
import os, signal, time
from synpo_lab.jobs.worker import StopSignal
stop = StopSignal()
helper = os.fork()
if helper == 0:
    time.sleep(60)
time.sleep(0.2)
os.kill(helper, signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
_, how = os.waitpid(helper, 0)
assert os.WTERMSIG(how) == signal.SIGTERM
assert stop.came
"""


def test_a_stop_signal_is_remembered_and_a_forked_helper_simply_ends() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
