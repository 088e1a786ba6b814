"""MinHash against exact Jaccard similarities of all with all."""

import itertools
import random

from synpo_lab.health.near_duplicates import NGRAM, PERM, Prompts, near_duplicates
from synpo_lab.health.words import shingles
from tests.health.conftest import FactsOf, a_pair, ids

VOCABULARY = [f"word{i}" for i in range(4000)]


def families(rng: random.Random, n: int) -> list[str]:
    """Texts of 60 words; two in three have one word in 60 exchanged of another's."""
    texts: list[list[str]] = []
    for i in range(n):
        words = list(texts[i - i % 3]) if i % 3 else [rng.choice(VOCABULARY) for _ in range(60)]
        if i % 3:
            words[rng.randrange(60)] = rng.choice(VOCABULARY)
        texts.append(words)
    return [" ".join(words) for words in texts]


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one, NGRAM), shingles(other, NGRAM)
    return len(a & b) / len(a | b)


def found_in(texts: list[str]) -> tuple[dict[int, int], set[tuple[int, int]]]:
    """The cluster of each near-duplicate, and the pairs whose exact similarity is .87 or more."""
    prompts = Prompts()
    for i, text in enumerate(texts):
        prompts.add(i, text)
    near = {
        pair for pair in itertools.combinations(range(len(texts)), 2) if jaccard(texts[pair[0]], texts[pair[1]]) >= 0.87
    }
    return {place: cluster.first for place, cluster in prompts.clusters().items()}, near


def test_nine_in_ten_true_near_duplicates_are_found_and_nothing_unlike() -> None:
    texts = families(random.Random(2), 300)
    cluster, near = found_in(texts)
    assert len(near) > 60
    joined = sum(a in cluster and b in cluster and cluster[a] == cluster[b] for a, b in near)
    assert joined / len(near) > 0.9
    for place, first in cluster.items():
        assert place == first or jaccard(texts[place], texts[first]) > 0.6


def test_texts_of_one_template_that_differ_much_are_not_brought_together() -> None:
    rng = random.Random(4)
    template = [f"Name three {' '.join(rng.sample(VOCABULARY, 6))} that you know" for _ in range(300)]
    assert found_in(template)[0] == {}


def test_a_million_copies_would_cost_no_more_than_a_million_comparisons() -> None:
    prompts = Prompts()
    for i in range(500):
        prompts.add(i, "the very same text every time")
    clusters = prompts.clusters()
    assert {cluster.first for cluster in clusters.values()} == {0}
    assert {cluster.prompts for cluster in clusters.values()} == {500}


def test_signatures_are_datasketchs_own() -> None:
    import zlib

    from datasketch import MinHash

    text = "a few words about plums and kale"
    prompts = Prompts()
    prompts.add(7, text)
    reference = MinHash(num_perm=PERM, hashfunc=zlib.crc32)
    for gram in shingles(text, NGRAM):
        reference.update(gram.encode())
    assert prompts._signatures[0].tolist() == reference.hashvalues.tolist()


def test_prompts_beyond_the_most_are_counted_and_wordless_ones_left_alone() -> None:
    prompts = Prompts(most=2)
    for i, text in enumerate(["!?", "", "one two three", "four five six", "seven eight nine"]):
        prompts.add(i, text)
    assert (prompts.keys, prompts.left_out) == ([2, 3], 1)


def test_the_pairs_of_near_prompts_are_found_and_pairs_of_one_prompt_are_not(facts_of: FactsOf) -> None:
    base = " ".join(VOCABULARY[:60])
    one, other = a_pair(base), a_pair(base.replace("word7 ", "WORD7, ") + " thanks")
    same = [a_pair("quite another prompt, twice over and over", chosen=f"answer {i}") for i in range(2)]
    facts = facts_of([one, other, *same])
    prompts = Prompts()
    for pair in (one, other, same[0]):
        row = next(row for row in range(4) if facts.id_of(row) == pair.pair_id)
        prompts.add(int(facts.prompt_key[row]), pair.prompt)
    result, rows = near_duplicates(facts, prompts)
    assert ids(facts, rows) == {one.pair_id, other.pair_id}
    assert result.plot is not None
    assert result.plot.heights == [1, 0, 0, 0]
