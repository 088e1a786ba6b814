"""What a page hands out is what its query shows."""

import json
import zipfile
from pathlib import Path

import gradio as gr
import pytest

from pages import export_panel
from pages.export_panel import SHAPES, written
from pages.shell import Lab
from storage.errors import StorageFault
from storage.export import ExportReport
from storage.queries import PairQuery, pairs_page
from storage.state import set_state
from synpo_lab.home import open_store
from synpo_lab.records import Pair
from tests.pages.conftest import RUN


def test_a_download_holds_the_rows_of_the_query_kept_or_not(lab: Lab) -> None:
    query = PairQuery(iteration=2, kept=False)
    path, made = written(lab, RUN, query, "trl", False)
    shown = pairs_page(lab.database, RUN, query, limit=1000)
    assert made.rows == shown.total > 0
    assert made.flattened == 0
    ids = [json.loads(line)["pair_id"] for line in path.read_text().splitlines()]
    assert sorted(ids) == sorted(row["pair_id"] for row in shown.rows)


def test_what_the_trainer_read_can_be_had_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[PairQuery] = []
    monkeypatch.setattr(
        export_panel,
        "written",
        lambda lab, run_id, query, *rest: (asked.append(query), (Path("x"), ExportReport(1, Path("x"), 1)))[1],
    )
    with gr.Blocks() as app:
        export_panel.export_panel(lab, "pairs", lambda run_id: (run_id, PairQuery(iteration=2)), [gr.State(RUN)])
    download = next(one.fn for one in app.fns.values() if one.fn is not None and one.fn.__name__ == "download")
    for read in (False, True):
        download(next(iter(SHAPES)), read, False, RUN)
    assert asked == [PairQuery(iteration=2), PairQuery(iteration=2, kept=True)]


def test_chat_messages_are_proposed_for_conversations_and_a_plain_export_says_what_it_flattens(home: Path) -> None:
    store = open_store(home)
    talk = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    for name, messages in (("talk", [talk, None, talk]), ("plain", [None])):
        run = store.create_run(name, "recipe: import\n", {"recipe": "import", "created_at": 1.0})
        run.append(
            Pair(
                1, f"{name}{i}", "q", "?", "c", "r", "yes", "no", None, None, None, 3, 2, 0.0, True, None, messages=told
            )
            for i, told in enumerate(messages)
        )
        set_state(run.folder, "imported")
    lab = Lab(home)
    with gr.Blocks() as app:
        export_panel.export_panel(lab, "pairs", lambda run_id: (run_id, PairQuery()), [gr.State("talk")])
    handlers = {one.fn.__name__: one.fn for one in app.fns.values() if one.fn is not None}
    shape = next(iter(SHAPES))
    asked = handlers["propose"](shape, False, "talk")
    assert (asked.value, asked.info) == (True, "2 prompts are conversations")
    assert "value" not in handlers["propose"](shape, False, "plain").constructor_args
    told = "2 of the prompts are conversations, written as one text"
    assert told in handlers["download"](shape, False, False, "talk")[1]
    assert told not in handlers["download"](shape, False, True, "talk")[1]
    lab.close()


@pytest.mark.parametrize("format", SHAPES.values())
def test_every_shape_is_one_file(lab: Lab, format: str) -> None:
    path, made = written(lab, RUN, PairQuery(), format, chat=True)
    assert path.is_file()
    assert made.rows > 0
    assert RUN in path.name


def test_the_shapes_of_comparisons_hold_the_pairs_shown_or_the_evaluation(lab: Lab) -> None:
    shown = pairs_page(lab.database, RUN, PairQuery(iteration=2), limit=1000)
    _, made = written(lab, RUN, PairQuery(iteration=2), "llm-comparator", False)
    assert made.rows == shown.total
    path, _ = written(lab, RUN, PairQuery(iteration=2), "llm-comparator of the evaluation", False)
    assert json.loads(path.read_text())["models"] == [{"name": "M_2"}, {"name": "M_0"}]


def test_a_dataset_is_a_zip_with_its_card(lab: Lab) -> None:
    path, _ = written(lab, RUN, PairQuery(), "datasets", chat=False)
    with zipfile.ZipFile(path) as archive:
        assert {"README.md", "data/train-00000.parquet"} <= set(archive.namelist())


def test_nothing_to_hand_out_is_told(lab: Lab) -> None:
    with pytest.raises(StorageFault, match="nothing to export"):
        written(lab, RUN, PairQuery(min_gap=99.0), "trl", False)
