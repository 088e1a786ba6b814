"""Topics: k-means on unit vectors, and labels by c-TF-IDF."""

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synpo_lab.keywords import is_stopword
from synpo_lab.topics.vectors import VOCABULARY, Dense
from synpo_lab.topics.words import LONGEST_TEXT, words

Numbers = NDArray[np.int64]

MOST_TOPICS = 40
LABEL_WORDS = 3
WORDLESS = "no words"


def number_of_topics(texts: int) -> int:
    """How many topics to look for among so many different texts when nobody says: the square root of an eighth.

    On the pocket world's prompts, of 15 families, this finds about 18 topics and agrees with the families as well as any
    number near it (adjusted mutual information .80).
    """
    return max(1, min(MOST_TOPICS, round(math.sqrt(texts / 8))))


class Clusters:
    """Topic numbers from 0, the largest first. Rows of zeros are a topic of their own, the last."""

    def __init__(self, rows: Dense, number: int) -> None:
        """`rows` [N, d]: the vectors of different texts, in an order that is always the same."""
        told = rows[_lengths(rows) > 0]
        self._centres = _centres(told, number) if len(told) else np.zeros((0, rows.shape[1]), np.float32)

    @property
    def wordless(self) -> int:
        """The topic of rows of zeros."""
        return len(self._centres)

    def of(self, rows: Dense) -> Numbers:
        """[N, d] -> [N]"""
        if not len(self._centres):
            return np.zeros(len(rows), np.int64)
        # The nearest centre: |row - centre|^2 without the row's own length, which is the same for all centres.
        distances = (self._centres**2).sum(1) - 2 * rows @ self._centres.T
        return np.where(_lengths(rows) > 0, distances.argmin(1), self.wordless).astype(np.int64)


def _centres(rows: Dense, number: int) -> Dense:
    from sklearn.cluster import KMeans

    different = len(np.unique(np.round(rows, 4), axis=0))
    found = KMeans(min(number, different), n_init=4, random_state=0).fit(rows)
    sizes = np.bincount(found.labels_)
    return np.asarray(found.cluster_centers_[np.argsort(-sizes, kind="stable")], np.float32)


# Tags and entities of HTML in a prompt are no words; and what every other prompt says tells no topic from another.
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]{0,300}>|&(?:[a-zA-Z]{2,8}|#\d{1,6});")
_ASKING = frozenset("following given help know make need tell thing things use used using want way".split())


def labels(texts: Sequence[str], topics: Numbers, number: int) -> list[str]:
    """A label for each of topics 0 to number - 1: the words with the highest c-TF-IDF.

    c-TF-IDF of word w in topic c is its share of the topic's words times log(1 + A / f): f times it occurs in all
    topics, A words a topic has on average (BERTopic, arXiv 2203.05794, equation 2). English function words are left out
    as long as there are others.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=_told_words, max_features=VOCABULARY)
    if not any(_told_words(text) for text in texts):
        return [WORDLESS] * number
    counts = counter.fit_transform(texts)
    by_topic = np.stack([np.asarray(counts[topics == topic].sum(0), float).ravel() for topic in range(number)])
    totals = by_topic.sum(1, keepdims=True)
    shares = np.divide(by_topic, totals, out=np.zeros_like(by_topic), where=totals > 0)
    weights = shares * np.log1p(totals.mean() / by_topic.sum(0))
    names = counter.get_feature_names_out()
    return [_label(row, names) for row in weights]


def _told_words(text: str) -> list[str]:
    return words(_MARKUP.sub(" ", text[:LONGEST_TEXT]))


def _label(weights: NDArray[np.float64], names: NDArray[np.str_]) -> str:
    ranked = [str(names[place]) for place in np.argsort(-weights, kind="stable")[:50] if weights[place] > 0]
    telling = [word for word in ranked if not _is_function_word(word) and not word.isdigit() and not _is_letter(word)]
    return ", ".join((telling or ranked)[:LABEL_WORDS]) or WORDLESS


def _is_function_word(word: str) -> bool:
    """Words that any request is made of, and contractions of them: "i'm", "don't"."""
    stem = word.replace("’", "'").partition("'")
    return is_stopword(word) or word in _ASKING or (bool(stem[1]) and (is_stopword(stem[0]) or stem[2] == "t"))


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii()


def _lengths(rows: Dense) -> NDArray[np.float64]:
    return np.asarray(np.abs(rows).sum(1), float)
