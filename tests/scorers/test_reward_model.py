"""Sequence-classification reward models: the real classes, small."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import EngineError, ModelError
from synpo_lab.scorers import open_scorer
from synpo_lab.scorers.classifiers import RewardModel, padding
from tests.scorers.tiny_scorers import classifier, rows_of_many_lengths, save, words
from tests.tiny_model import TEMPLATE, save_tiny, tiny_tokenizer

ROWS = rows_of_many_lengths()


CASES = [("llama", None), ("llama", 2), ("qwen3", 0)]  # and the padding its config names: none, the end token, another


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}, padding {case[1]}")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, padding_id = request.param
    return save(classifier(kind, pad_token_id=padding_id), tmp_path_factory.mktemp("rm") / "model")


def scorer(folder: Path, **changes: Any) -> RewardModel:
    made = open_scorer(ScorerConfig(name="reward-model", model=str(folder), **{"device": "cpu", **changes}))
    assert isinstance(made, RewardModel)
    return made


def totals(made: Any, rows: Any = ROWS) -> list[float]:
    return [aspects["total"] for aspects in made.score(rows)]


@torch.inference_mode()
def by_its_card(folder: Path, prompt: str, answer: str) -> float:
    """As the model cards do it: the template's rendering, one row, the only logit."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), tiny_tokenizer(200)
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return float(model(input_ids=ids).logits[0][0])


def test_a_reward_is_the_logit_that_the_model_card_computes(folder: Path) -> None:
    rows = [ROWS[3], ROWS[17], ("w1 w2", "")]
    assert totals(scorer(folder), rows) == pytest.approx([by_its_card(folder, *row) for row in rows], abs=1e-5)


def test_batches_of_any_size_give_what_single_rows_give(folder: Path) -> None:
    alone = totals(scorer(folder, batch_size=1))
    assert totals(scorer(folder, batch_size=16)) == pytest.approx(alone, abs=1e-5)
    assert totals(scorer(folder, batch_size=7)) == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) > 30


def test_without_a_padding_of_its_own_the_end_token_is_what_is_read(tmp_path: Path) -> None:
    """The tokenizer pads with the end token; a model that took that for padding would read the token before."""
    folder = save(classifier(pad_token_id=None), tmp_path / "model")
    skipping = save(classifier(pad_token_id=2), tmp_path / "skipping")
    rows = [("w1", "w2"), ("w1", words(0, 60))]
    assert totals(scorer(folder), rows)[0] == pytest.approx(by_its_card(folder, "w1", "w2"), abs=1e-5)
    assert abs(totals(scorer(folder), rows)[0] - totals(scorer(skipping), rows)[0]) > 1e-2


def test_a_padding_is_in_no_row_and_where_all_are_taken_ends_none() -> None:
    assert padding([[0, 1], [3]], 10) == 2
    assert padding([[0, 1, 2], [3, 0]], 4) == 1


def test_what_the_template_adds_after_the_end_token_is_read_too(tmp_path: Path) -> None:
    """Qwen's template ends a turn with <|im_end|> and a new line, and its reward models are trained on both."""
    longer = TEMPLATE.replace("{{ eos_token }}", "{{ eos_token }} w9")
    model = classifier()
    with_tail = save(model, tmp_path / "tail", template=longer)
    plain = save(model, tmp_path / "plain")
    [reward] = totals(scorer(with_tail), [("w1", "w2")])
    assert reward != pytest.approx(totals(scorer(plain), [("w1", "w2")])[0], abs=1e-3)


def test_a_row_that_is_too_long_loses_its_start(folder: Path) -> None:
    kept = scorer(folder, max_length=16)
    long, longer = words(0, 40), words(5, 30) + " " + words(0, 40)
    assert totals(kept, [("w1", long)]) == pytest.approx(totals(kept, [("w7 w8", longer)]), abs=1e-5)
    assert len(kept._encode([("w1", longer)])[0]) == 16


def test_no_row_is_longer_than_the_models_context(folder: Path) -> None:
    wide = scorer(folder, max_length=4096)
    assert [len(ids) for ids in wide._encode([("w1", words(0, 5000))])] == [128]
    assert len(totals(wide, [("w1", words(0, 5000))])) == 1


def test_strange_texts_get_numbers_and_disturb_no_other(folder: Path) -> None:
    plain = [("w1", "w2"), ("w3", "w4 w5")]
    strange = [
        ("", ""),
        ("\ud800", "\udfff"),
        ("雪🙂\u202e", "\x00\n"),
        ("</s> <user>", "<bot> </s> </s>"),
        ("a" * 9999, "b"),
    ]
    found = totals(scorer(folder), [plain[0], *strange, plain[1]])
    assert all(map(torch.isfinite, map(torch.tensor, found)))
    assert [found[0], found[-1]] == pytest.approx(totals(scorer(folder), plain), abs=1e-5)


def test_no_rows_no_numbers(folder: Path) -> None:
    assert totals(scorer(folder), []) == []


def test_rows_are_read_as_they_are_needed(folder: Path) -> None:
    taken = 0

    def rows() -> Iterator[tuple[str, str]]:
        nonlocal taken
        for row in ROWS * 50:
            taken += 1
            yield row

    made = scorer(folder, batch_size=2).score(rows())
    for _ in range(10):
        next(made)
    assert taken <= 32


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory fails for batches above 3 rows; the numbers are the same, and later batches begin small."""
    made, sizes = scorer(folder, batch_size=16), []
    plain = made._numbers

    def tight(ids: list[list[int]]) -> Any:
        sizes.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(ids)

    monkeypatch.setattr(made, "_numbers", tight)
    assert totals(made) == pytest.approx(totals(scorer(folder)), abs=1e-5)
    assert sizes[:3] == [16, 8, 4]
    assert max(sizes[3:]) == 2


def test_a_single_row_that_does_not_fit_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scorer(folder)

    def never_fits(ids: list[list[int]]) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(made, "_numbers", never_fits)
    with pytest.raises(EngineError, match="ran out of memory on one text") as caught:
        totals(made)
    assert "scorer.max_length" in caught.value.hint


def test_an_error_that_is_not_for_memory_is_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scorer(folder)

    def broken(ids: list[list[int]]) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(made, "_numbers", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        totals(made)


def test_a_stop_ends_the_work_between_two_batches(folder: Path) -> None:
    class Stop(BaseException):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise Stop

    made = scorer(folder, batch_size=2)
    made.check = check
    with pytest.raises(Stop):
        totals(made)
    assert asked == 3


def test_after_close_the_model_is_gone_and_comes_back_when_asked(folder: Path) -> None:
    made = scorer(folder)
    before = totals(made)
    made.close()
    assert made._model is None
    assert totals(made) == before


def test_a_classifier_of_two_labels_is_no_reward_model(tmp_path: Path) -> None:
    two = save(classifier(labels=2), tmp_path / "two")
    with pytest.raises(ModelError, match=r"logits of shape \(1, 2\), not one number") as caught:
        totals(scorer(two), ROWS[:1])
    assert "one label" in caught.value.hint


def test_a_language_model_is_refused_for_its_scores_would_be_random(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lack score\.weight: its scores would be random"):
        totals(scorer(save_tiny(tmp_path / "lm")), ROWS[:1])


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_a_model_is_told_with_a_hint(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError) as caught:
        totals(scorer(tmp_path / name), ROWS[:1])
    assert caught.value.hint


def test_damaged_weights_are_told_with_a_hint(tmp_path: Path) -> None:
    broken = save(classifier(), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        totals(scorer(broken), ROWS[:1])
    assert caught.value.hint
