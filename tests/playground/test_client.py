"""The playground's process: real ones, on tiny models."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from synpo_lab.errors import EngineError
from synpo_lab.playground import client
from synpo_lab.playground.client import Playground
from synpo_lab.playground.wire import Ask, Model, Reply, ask_of, line_of, reply_of
from tests.tiny_model import save_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        save_tiny(home / f"M_{seed}", seed=seed, max_position_embeddings=4096)
    return home


@pytest.fixture(scope="module")
def playground() -> Iterator[Playground]:
    """One process for most tests: each takes seconds to start."""
    made = Playground()
    yield made
    made.close()


def an_ask(folder: Path, name: str = "M_0", prompt: str = "w1 w2", *, tokens: int = 12, **more: object) -> Ask:
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": tokens}
    model = Model(name, str(folder / name), {"device": "cpu", "threads": 1})
    return Ask(0, model, prompt, "key", sampling, **({"seed": 7} | more))  # type: ignore[arg-type]


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_models_answer_from_one_process_and_the_same_seed_says_the_same(folder: Path, playground: Playground) -> None:
    assert Playground().pid is None
    first = playground.ask(an_ask(folder))
    pid = playground.pid
    assert first.finish_reason in {"stop", "length"}
    assert first.text
    again, other, elsewhere = (
        playground.ask(ask) for ask in (an_ask(folder), an_ask(folder, seed=8), an_ask(folder, "M_1"))
    )
    assert (again.text, again.loaded) == (first.text, 0)
    assert len({first.text, other.text, elsewhere.text}) == 3
    assert playground.pid == pid


def test_what_was_said_before_changes_the_answer(folder: Path, playground: Playground) -> None:
    alone, after = (playground.ask(an_ask(folder, history=turns)).text for turns in ((), (("w3", "w4"),)))
    assert alone != after


def test_a_model_that_is_not_there_is_told_with_a_hint_and_the_process_lives_on(
    folder: Path, playground: Playground
) -> None:
    reply = playground.ask(an_ask(folder, "M_9"))
    assert reply.finish_reason == "error"
    assert "M_9" in reply.error
    assert reply.hint
    assert playground.ask(an_ask(folder)).text


def test_a_long_answer_is_cancelled_while_it_is_written(folder: Path, playground: Playground) -> None:
    playground.ask(an_ask(folder))
    began = time.monotonic()
    asked = threading.Event()
    threading.Timer(0.5, asked.set).start()
    model = an_ask(folder).model
    endless = {"temperature": 5.0, "top_p": 1.0, "max_new_tokens": 4000}
    replies = [playground.ask(Ask(0, model, "w1", f"k{i}", endless, i), asked.is_set) for i in range(40)]
    assert any(reply.finish_reason == "cancelled" for reply in replies)
    assert time.monotonic() - began < 60
    assert playground.ask(an_ask(folder)).text


def test_only_a_few_models_stay_loaded(folder: Path, playground: Playground, tmp_path: Path) -> None:
    names = [f"M_{i}" for i in range(4)]
    for i, name in enumerate(names):
        save_tiny(tmp_path / name, seed=i)
    assert all(playground.ask(an_ask(tmp_path, name)).loaded > 0 for name in names)
    assert playground.ask(an_ask(tmp_path, "M_3")).loaded == 0
    assert playground.ask(an_ask(tmp_path, "M_0")).loaded > 0  # the one not used for longest had gone


def test_an_idle_process_is_let_go_and_comes_back(folder: Path) -> None:
    playground = Playground(idle_seconds=0.3)
    playground.ask(an_ask(folder))
    pid = playground.pid or 0
    assert gone(pid)
    assert playground.pid is None
    assert playground.ask(an_ask(folder)).text
    playground.close()


def test_a_killed_process_is_told_and_the_next_ask_starts_another(folder: Path, playground: Playground) -> None:
    playground.ask(an_ask(folder))
    pid = playground.pid or 0
    endless = {"temperature": 5.0, "top_p": 1.0, "max_new_tokens": 4000}
    threading.Timer(0.05, os.kill, [pid, signal.SIGKILL]).start()
    with pytest.raises(EngineError, match="killed") as caught:
        [playground.ask(Ask(0, an_ask(folder).model, "w1", f"k{i}", endless, i)) for i in range(200)]
    assert "ask again" in caught.value.hint
    assert playground.ask(an_ask(folder)).text
    assert playground.pid != pid


def test_a_process_that_cannot_start_says_what_it_printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WORKER", (sys.executable, "-c", "raise SystemExit('no torch here')"))
    with pytest.raises(EngineError, match="no torch here"):
        Playground().ask(an_ask(folder))


def test_the_process_ends_with_the_lab_even_when_that_is_killed(folder: Path) -> None:
    code = (
        "import sys, time; from synpo_lab.playground.client import Playground; from synpo_lab.playground.wire import *\n"
        "p = Playground()\n"
        f"p.ask(Ask(0, Model('M_0', {str(folder / 'M_0')!r}, {{'device': 'cpu'}}), 'w1', 'k', {{'max_new_tokens': 3}}, 0))\n"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    lab = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert lab.stdout is not None
    pid = int(lab.stdout.readline())
    lab.kill()
    lab.wait()
    lab.stdout.close()
    assert gone(pid)


def test_asks_and_replies_pass_the_wire_as_they_are(folder: Path) -> None:
    import json

    ask = an_ask(folder, prompt='é"\n\ud800\u2028', history=(("a", "b"),), stop="x")
    assert ask_of(json.loads(line_of(ask))) == ask
    assert line_of(ask).count("\n") == 1
    reply = Reply(3, "text", 2, "stop", 0.5, 0.1)
    assert reply_of(line_of(reply)) == reply
    with pytest.raises(ValueError, match="no reply"):
        reply_of('{"text": "no id"}')
