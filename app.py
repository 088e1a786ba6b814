"""`make demo`: the lab at http://127.0.0.1:7860, with a run to watch."""

import gc

gc.disable()  # until it serves: loading makes a million objects and no garbage, and looking for it takes a fifth of the start

from pages.lab import build, open_demo  # noqa: E402

demo = build()

if __name__ == "__main__":
    open_demo(demo)
