"""Scorers by name, those of other packages among them, and what is stored of each."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ConfigError, LabError
from synpo_lab.records import Response
from synpo_lab.scorers import names, open_scorer
from synpo_lab.scorers.identity import identity
from synpo_lab.stages.score import is_last, score
from tests.scorers.tiny_scorers import classifier, save

MODULE = """
class Politeness:
    name = "politeness 1.2"

    def score(self, rows):
        for prompt, answer in rows:
            yield {"total": float("please" in answer), "length": float(len(answer))}

def broken():
    raise RuntimeError("no dictionary here")

nothing = 3
"""


@pytest.fixture
def another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution on the path whose entry points name scorers, as pip would install it."""
    site = tmp_path / "site"
    about = site / "polite_words-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: polite-words\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(
        "[synpo_lab.scorers]\npoliteness = polite_words_test:Politeness\nbroken = polite_words_test:broken\n"
        "absent = polite_words_test:gone\nnothing = polite_words_test:nothing\n"
    )
    (site / "polite_words_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("polite_words_test", None)


def response(number: int, text: str) -> Response:
    return Response(1, f"r{number}", "p", "draft", "M_0", text, 1, "stop", "{}")


def test_a_scorer_of_another_package_is_found_by_its_name(another_package: None) -> None:
    made: Any = open_scorer(ScorerConfig(name="politeness"))
    assert list(made.score([("p", "yes please")])) == [{"total": 1.0, "length": 10.0}]
    assert names()[-4:] == ["absent", "broken", "nothing", "politeness"]


@pytest.mark.parametrize("name", ["broken", "absent", "nothing"])
def test_a_scorer_of_another_package_that_fails_is_told_with_a_hint(another_package: None, name: str) -> None:
    with pytest.raises(LabError, match=f"scorer '{name}'") as caught:
        open_scorer(ScorerConfig(name=name))
    assert caught.value.hint


def test_an_unknown_scorer_is_told_the_names() -> None:
    with pytest.raises(ConfigError, match="no scorer 'oracle'") as caught:
        open_scorer(ScorerConfig(name="oracle"))
    assert "reward-model" in caught.value.hint


def test_every_score_carries_its_scorers_name_and_the_total_comes_last(another_package: None) -> None:
    made = list(
        score(open_scorer(ScorerConfig(name="politeness")), [response(1, "please"), response(2, "no")], {"p": "x"})
    )
    assert [(s.response_id, s.aspect, s.value) for s in made] == [
        ("r1", "length", 6), ("r1", "total", 1), ("r2", "length", 2), ("r2", "total", 0),
    ]  # fmt: skip
    assert {s.scorer for s in made} == {"politeness 1.2"}
    assert [is_last(s) for s in made] == [False, True, False, True]


class Says:
    """A scorer that gives these aspects, whatever it is asked."""

    name = "says"

    def __init__(self, *aspects: dict[str, float]) -> None:
        self._aspects = aspects

    def score(self, rows: Any) -> Iterator[dict[str, float]]:
        list(rows)
        yield from self._aspects


def test_a_total_that_is_no_number_counts_as_unparsed() -> None:
    nan, good = {"total": float("nan"), "style": 1.0}, {"total": 2.0, "style": float("inf")}
    made = list(score(Says(nan, good), [response(1, "a"), response(2, "b")], {"p": "x"}))
    assert [(s.response_id, s.aspect, s.value) for s in made] == [("r1", "unparsed", 1.0), ("r2", "total", 2.0)]


@pytest.mark.parametrize("given", [0, 1, 3])
def test_a_scorer_that_gives_too_few_or_too_many_numbers_is_told(given: int) -> None:
    with pytest.raises(ConfigError, match=f"gave {given} numbers for 2 answers"):
        list(score(Says(*[{"total": 1.0}] * given), [response(1, "a"), response(2, "b")], {"p": "x"}))


def test_a_scorer_without_a_total_is_told() -> None:
    with pytest.raises(ConfigError, match="gave no 'total', only"):
        list(score(Says({"style": 1.0}), [response(1, "a")], {"p": "x"}))


def test_an_identity_follows_weights_config_and_template(tmp_path: Path) -> None:
    folder = tmp_path / "rm"

    def told() -> str:
        return identity(ScorerConfig(name="reward-model", model=str(folder)))

    save(classifier(), folder)
    seen = [told()]
    assert seen[0].startswith("reward-model:rm@")
    assert told() == seen[0]
    save(classifier(seed=1), folder)
    seen.append(told())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    seen.append(told())
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert len({*seen, told()}) == 4


def test_an_identity_of_a_hub_model_tells_its_revision() -> None:
    hub = ScorerConfig(name="reward-model", model="hub:Skywork/Reward")
    assert identity(hub) == "reward-model:Skywork/Reward@main"
    assert identity(hub.model_copy(update={"revision": "abc"})) == "reward-model:Skywork/Reward@abc"
