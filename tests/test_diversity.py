"""How alike texts are: by hand, against scikit-learn, and for any vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from synpo_lab import diversity
from synpo_lab.diversity import mean_similarity, nearest

ROWS = st.integers(1, 12).flatmap(
    lambda n: arrays(np.float32, (n, 4), elements=st.sampled_from([0, 0, 0.5, 1, 2, -1]))
)  # fmt: skip


def unit(rows: object) -> np.ndarray:
    return np.asarray(normalize(np.asarray(rows, np.float32)))


def test_the_mean_similarity_of_three_prompts_by_hand() -> None:
    """Unit vectors at 0, 60 and 90 degrees: cosines .5 (0-60), 0 (0-90), .866 (60-90)."""
    angles = np.radians([0, 60, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    means = mean_similarity(rows, rows, np.ones(3, bool))
    assert means == pytest.approx([0.25, (0.5 + 0.8660254) / 2, 0.4330127])


def test_a_prompt_alone_has_no_mean_similarity() -> None:
    assert np.isnan(mean_similarity(np.ones((1, 1)), np.ones((1, 1)), np.array([True]))).all()


def test_prompts_outside_the_sample_are_compared_with_all_of_it() -> None:
    rows, sample = unit([[1, 0], [1, 1]]), unit([[1, 0], [0, 1]])
    assert mean_similarity(rows, sample, np.array([False, False])) == pytest.approx([0.5, np.sqrt(0.5)])


@given(ROWS)
def test_mean_similarity_is_that_of_scikit_learn_sparse_or_dense(rows: np.ndarray) -> None:
    table = cosine_similarity(rows)
    np.fill_diagonal(table, 0)
    among = np.ones(len(rows), bool)
    expected = table.sum(1) / (len(rows) - 1) if len(rows) > 1 else np.full(1, np.nan)
    for given_rows in (unit(rows), csr_matrix(unit(rows))):
        assert mean_similarity(given_rows, given_rows, among) == pytest.approx(expected, abs=1e-5, nan_ok=True)


@given(ROWS, ROWS)
def test_the_nearest_is_that_of_scikit_learn_sparse_or_dense(rows: np.ndarray, references: np.ndarray) -> None:
    table = np.clip(cosine_similarity(rows, references), 0, 1)
    for wrap in (unit, lambda given_rows: csr_matrix(unit(given_rows))):
        values, places = nearest(wrap(rows), wrap(references))
        assert values == pytest.approx(table.max(1), abs=1e-5)
        assert np.take_along_axis(table, places[:, None], 1).ravel() == pytest.approx(table.max(1), abs=1e-5)
        assert ((values >= 0) & (values <= 1)).all()


def test_few_similarities_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit(np.random.default_rng(1).normal(size=(50, 5)))
    at_once = nearest(rows, rows[::3])
    monkeypatch.setattr(diversity, "PRODUCTS", 20)
    in_steps = nearest(rows, rows[::3])
    assert in_steps[1].tolist() == at_once[1].tolist()
    assert in_steps[0] == pytest.approx(at_once[0], abs=1e-6)


def test_nothing_has_no_nearest() -> None:
    values, places = nearest(np.zeros((0, 3)), np.ones((2, 3)))
    assert (len(values), len(places)) == (0, 0)
