"""`make demo`: the lab at http://127.0.0.1:7860, with a run to watch."""

from pages.lab import build, open_demo

demo = build()

if __name__ == "__main__":
    open_demo(demo)
