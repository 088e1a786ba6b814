"""The pocket world's fixed data: evaluation prompts, gold seeds, paragraphs for keywords, and M_0's training rows.

Everything follows from constants, so nothing needs to be stored; `reserved()` is what M_0's training may not contain.
"""

import random
from collections.abc import Iterator
from functools import cache

from synpo_lab.keywords import content_words, keyword_list
from synpo_lab.pocket.answers import BLURTED, GOLD, REVIEWED, Habits, answer, gold
from synpo_lab.pocket.lexicon import CATEGORIES, PLACES, PLURALS, VERBS
from synpo_lab.pocket.tasks import FAMILIES, Task, parse, phrase, sample, write
from synpo_lab.templates import TEMPLATES

N_EVALUATION = 1000
N_SEEDS = 240
# Families with few distinct requests give fewer evaluation prompts, so that training still sees most of them.
_EVALUATION_SHARE = {"list": 12, "list_sorted": 8, "letter": 20, "category": 40, "list_except": 70, "repeat": 70}

Row = tuple[str, str]


@cache
def evaluation_prompts() -> tuple[str, ...]:
    """1,000 distinct prompts no model is trained on."""
    rng = random.Random("evaluation")
    large = [family for family in FAMILIES if family not in _EVALUATION_SHARE]
    left = N_EVALUATION - sum(_EVALUATION_SHARE.values())
    shares = _EVALUATION_SHARE | {family: left // len(large) for family in large}
    shares[large[-1]] += left % len(large)
    prompts: dict[str, None] = {}
    for family, share in shares.items():
        wanted = len(prompts) + share
        while len(prompts) < wanted:
            prompts[write(sample(rng, family), rng)] = None
    return tuple(rng.sample(list(prompts), len(prompts)))


@cache
def seeds() -> tuple[Row, ...]:
    """240 (prompt, gold answer) rows, 16 of each family, none of them an evaluation prompt."""
    rng, held_out = random.Random("seeds"), set(evaluation_prompts())
    rows: dict[str, str] = {}
    while len(rows) < N_SEEDS:
        task = sample(rng, FAMILIES[len(rows) % len(FAMILIES)])
        prompt = write(task, rng)
        if prompt not in held_out and prompt not in rows:
            rows[prompt] = gold(task, rng)
    return tuple(rows.items())


@cache
def reserved() -> frozenset[str]:
    """Prompts M_0's training may not contain: evaluation prompts and seeds."""
    return frozenset(evaluation_prompts()) | {prompt for prompt, _ in seeds()}


@cache
def paragraphs() -> tuple[str, ...]:
    """4,000 short texts of the pocket world, where keyword lists come from (SynPO takes them from RefinedWeb)."""
    rng = random.Random("paragraphs")
    return tuple(_paragraph(rng) for _ in range(4000))


def training_rows(n: int, seed: int, *, blurted: Habits = BLURTED, reviewed: Habits = REVIEWED) -> Iterator[Row]:
    """M_0's training rows: 45 % answers, 42 % rewrites of a draft, 13 % prompts from keywords. All of mixed quality."""
    rng = random.Random(f"training {seed}")
    held_out = reserved()
    before = "name three fruits."
    while n:
        task = sample(rng, rng.choice(FAMILIES))
        prompt = write(task, rng)
        if prompt in held_out:
            continue
        row = _training_row(task, prompt, before, rng, blurted, reviewed)
        if row is not None:
            n -= 1
            yield row
        before = prompt


def is_valid_prompt(prompt: str) -> bool:
    """True for an answerable request of the pocket world in its canonical spelling."""
    task = parse(prompt)
    return task is not None and any(prompt == phrase(task, i) for i in range(3) if _has_wording(task, i))


def _has_wording(task: Task, wording: int) -> bool:
    from synpo_lab.pocket.tasks import WORDINGS

    return wording < len(WORDINGS[task.family])


def _training_row(
    task: Task, prompt: str, before: str, rng: random.Random, blurted: Habits, reviewed: Habits
) -> Row | None:
    kind = rng.random()
    if kind < 0.45:
        return prompt, answer(task, blurted, rng)
    if kind < 0.87:
        draft = answer(task, rng.choices((blurted, reviewed, GOLD), (60, 25, 15))[0], rng)
        return TEMPLATES["pocket"].ask_to_improve(prompt, draft), answer(task, reviewed, rng, draft=draft)
    words = content_words(prompt)
    noise = [rng.choice(content_words(before))]
    keywords = keyword_list(words, noise, per_prompt=3, rng=rng)
    if keywords is None:
        return None
    target = TEMPLATES["pocket"].generator_target(prompt, answer(task, blurted, rng))
    return TEMPLATES["pocket"].ask_for_prompt(keywords.words), target


_DEEDS = (
    "name list number {cats}",
    "reverse backwards list words",
    "sort order words alphabet",
    "sentence write words",
    "count {cats} list",
    "pick {cats} list",
    "repeat say word times",
    "kind thing explain",
    "first dictionary alphabet comes",
    "find {cat} list",
    "call {cat} tell",
    "letter begins starts {cat}",
    "three two four {cats}",
)


def _paragraph(rng: random.Random) -> str:
    """A scene with a few things of one or two categories and something to do with them."""
    first, second = rng.sample(list(CATEGORIES), 2)
    things = rng.sample(CATEGORIES[first], rng.randint(2, 4)) + rng.sample(CATEGORIES[second], rng.randint(1, 3))
    deeds = rng.choice(_DEEDS).format(cat=first, cats=PLURALS[first])
    scene = f"we {VERBS[first]} the {' and the '.join(things)} {rng.choice(PLACES)}"
    return f"{scene}. about {PLURALS[first]} and {PLURALS[second]}: {deeds}."
