from collections.abc import Iterator

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.base import Completion, Engine, Request
from synpo_lab.engines.scripted_engine import ScriptedEngine

WARM = SamplingConfig(temperature=1, max_new_tokens=5)


def one(engine: Engine, request: Request, seed: int = 0, sampling: SamplingConfig = WARM) -> Completion:
    [made] = engine.generate([request], sampling, seed=seed)
    return made


def test_answers_come_from_a_table_a_function_or_the_prompt() -> None:
    assert one(ScriptedEngine("M", {"hi": "hello there"}), Request("k", "hi")) == Completion(
        "k", "hello there", 3, "stop"
    )
    assert one(ScriptedEngine("M", {"hi": "hello"}), Request("k", "ho")).text == ""
    assert one(ScriptedEngine("M", lambda prompt, draw: prompt.upper()), Request("k", "hi")).text == "HI"
    assert one(ScriptedEngine("M"), Request("k", "hi")).text == "hi"


def test_draws_follow_from_seed_and_key_and_are_none_at_temperature_zero() -> None:
    engine = ScriptedEngine("M", lambda prompt, draw: str(draw))
    assert one(engine, Request("a", "p")) == one(engine, Request("a", "p"))
    assert len({one(engine, Request(key, "p"), seed).text for key in "ab" for seed in (0, 1)}) == 4
    assert one(engine, Request("a", "p"), sampling=SamplingConfig(temperature=0)).text == "0"


def test_long_answers_are_cut_and_stop_texts_left_out() -> None:
    engine = ScriptedEngine("M", {"p": "a b c d e f g"})
    assert one(engine, Request("k", "p")) == Completion("k", "a b c d e", 5, "length")
    assert one(engine, Request("k", "p", stop=" c")) == Completion("k", "a b", 3, "stop")


def test_requests_are_taken_one_by_one() -> None:
    taken: list[int] = []

    def asked() -> Iterator[Request]:
        for i in range(1000):
            taken.append(i)
            yield Request(str(i), "p")

    stream = ScriptedEngine("M").generate(asked(), WARM, seed=0)
    next(stream)
    assert taken == [0]


def test_its_own_answers_are_the_likeliest() -> None:
    engine = ScriptedEngine("M", {"p": "a b"})
    own, near, far = engine.mean_logps([("p", "a b"), ("p", "a c"), ("p", "a b c d")])
    assert own > near > far
