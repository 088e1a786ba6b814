"""Plans: hand-worked numbers, and the directions in which every knob moves them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import RunConfig, TrainingConfig, load, parse
from synpo_lab.errors import ConfigError
from synpo_lab.planning import memory, plan, work
from synpo_lab.planning.generating import Generator, generator
from synpo_lab.planning.gpus import GPUS, gpu_called
from synpo_lab.planning.shapes import shape_of
from synpo_lab.planning.work import Generate, Lengths, Read, Train
from synpo_lab.starts import start_text, starts

LLAMA = "hub:princeton-nlp/Llama-3-Base-8B-SFT"
A100 = GPUS["a100-80gb"]


def config(**changes: Any) -> RunConfig:
    return parse({"policy": LLAMA, "seeds": "nowhere.jsonl", **changes})


def parts(**simpo: Any) -> dict[str, float]:
    made = config(simpo=simpo)
    found = memory.training(shape_of(LLAMA), made.simpo, made.training, sides=2)
    return {part.what: part.bytes for part in found}


def test_full_fine_tuning_holds_sixteen_bytes_a_parameter_and_autocasts_copies() -> None:
    held = parts(micro_batch_size=1)
    count = shape_of(LLAMA).parameters
    states = held["weights"] + held["gradients"] + held["optimiser"]
    assert states == 16 * count
    assert held["weights in bfloat16"] == 2 * count


def test_checkpointed_activations_are_each_layers_input_and_one_layer() -> None:
    """2 sequences of 2,048 tokens, hidden 4,096, 32 layers: 2 x 4096 x 4096 x 32 + 34 x 4096 x 4096 bytes."""
    assert parts(micro_batch_size=1, max_length=2048)["activations"] == 4096 * 4096 * (2 * 32 + 34)
    plain = parts(micro_batch_size=1, max_length=2048, gradient_checkpointing=False)
    assert plain["activations"] == 32 * 34 * 4096 * 4096


def test_a_lora_learns_little_and_four_bits_hold_a_quarter() -> None:
    lora = parts(micro_batch_size=1, lora={"r": 16})
    assert lora["gradients"] == 4 * 41_943_040
    assert lora["weights"] == 2 * shape_of(LLAMA).parameters
    small = parts(micro_batch_size=1, lora={"r": 16, "quantize": "4bit"})
    assert 0.25 < small["weights"] / lora["weights"] < 0.3


@pytest.mark.parametrize(("how", "spread"), [("fsdp", {"weights", "gradients"}), ("zero2", {"gradients"}), ("", set())])
def test_processes_share_what_their_method_shards(how: str, spread: set[str]) -> None:
    trainer, shape = config().simpo, shape_of(LLAMA)
    alone = memory.training(shape, trainer, TrainingConfig(), sides=2)
    shared = memory.training(shape, trainer, TrainingConfig(processes=8, accelerate=how), sides=2)
    for before, after in zip(alone, shared, strict=True):
        if before.what in {"weights", "gradients"}:
            assert after.bytes == before.bytes / (8 if before.what in spread else 1)


def test_fsdp_holds_the_whole_model_on_every_gpu_until_it_is_sharded() -> None:
    count, shared = shape_of(LLAMA).parameters, {"training": {"processes": 8, "accelerate": "fsdp"}}

    def loaded(**changes: Any) -> dict[str, float]:
        made = plan(config(**shared, **changes), GPUS["a10g"])
        [held] = [held for held in made.holdings if "loading" in held.name]
        assert any("FSDP loads the whole model" in line for line in made.advice) is not held.fits
        return {part.what: part.bytes for part in held.parts}

    assert (loaded()["weights"], loaded()["shard"]) == (4 * count, count / 2)
    half, four = {"dtype": "bfloat16"}, {"lora": {"r": 16, "quantize": "4bit"}}
    everywhere = {"prompts": {"train": half}, "improver": {"train": half}}
    assert loaded(simpo=half)["weights"] == 4 * count  # G and R are still float32
    assert loaded(simpo=half, **everywhere)["weights"] == 2 * count
    small = loaded(simpo=four, prompts={"train": four}, improver={"train": four})
    assert small["weights"] < count
    assert not any("loading" in held.name for held in plan(config(training={"processes": 8}), A100).holdings)


def test_training_takes_six_operations_a_parameter_and_token_at_two_fifths_of_the_peak() -> None:
    shape, made = shape_of(LLAMA), config()
    trainer = made.simpo.model_copy(update={"gradient_checkpointing": False})
    seconds = work.seconds(Train("x", 1_000_000, trainer, 2), shape, made, A100)
    assert seconds == pytest.approx(1e6 * shape.parameters * 6 / (0.4 * 312e12))
    checkpointed = work.seconds(Train("x", 1_000_000, made.simpo, 2), shape, made, A100)
    assert checkpointed == pytest.approx(seconds * 8 / 6)


def test_several_gpus_share_trainings_and_answers() -> None:
    shape, one, eight = shape_of(LLAMA), config(), config(training={"processes": 8})
    training = Train("x", 1_000_000, one.simpo, 2)
    assert work.seconds(training, shape, one, A100) == pytest.approx(8 * work.seconds(training, shape, eight, A100))
    single, copies = (config(engine={"kind": "vllm", "vllm": {"data_parallel": n}}) for n in (1, 4))
    asked = Generate("x", 1000, 60, 350)
    assert work.seconds(asked, shape, single, A100) == pytest.approx(4 * work.seconds(asked, shape, copies, A100))


VLLM = {"vllm": {"tensor_parallel": 2, "data_parallel": 3, "gpu_memory_utilization": 0.5, "max_num_seqs": 64}}
HERE, BESIDE = Generator(False, 1, 1, 0.9, 256), Generator(True, 3, 2, 0.5, 64)


@pytest.mark.parametrize(
    ("engine", "found"),
    [
        (VLLM, HERE),  # settings of what is not used
        (VLLM | {"openai": {"trained": "vllm"}, "ray": {"each": "vllm"}}, HERE),
        (VLLM | {"batch_size": 8}, replace(HERE, most=8)),
        (VLLM | {"kind": "vllm"}, BESIDE),
        (VLLM | {"kind": "openai"}, HERE),
        (VLLM | {"kind": "openai", "openai": {"trained": "vllm"}}, BESIDE),
        (VLLM | {"kind": "ray", "ray": {"workers": 8, "gpus": 1}}, replace(HERE, copies=8)),
        (VLLM | {"kind": "ray", "ray": {"workers": 8, "gpus": 0.25}}, replace(HERE, copies=2)),
        (VLLM | {"kind": "ray", "ray": {"workers": 8, "gpus": 0}}, HERE),  # on CPUs: the plan is for a GPU
        (VLLM | {"kind": "ray", "ray": {"workers": 4, "gpus": 6, "each": "vllm"}}, replace(BESIDE, copies=12)),
    ],
)
def test_what_generates_and_over_how_many_copies_is_as_the_engine_opens_it(
    engine: dict[str, Any], found: Generator
) -> None:
    assert generator(config(engine=engine).engine) == found


def test_eight_workers_of_a_cluster_take_an_eighth_of_the_time() -> None:
    one, eight = (config(engine={"kind": "ray", "ray": {"workers": n, "gpus": 1}}) for n in (1, 8))
    asked, shape = Generate("x", 1000, 60, 350), shape_of(LLAMA)
    assert work.seconds(asked, shape, one, A100) == pytest.approx(8 * work.seconds(asked, shape, eight, A100))


def test_what_follows_a_server_is_planned_with_vllms_settings_where_vllm_generates() -> None:
    engine = {"kind": "openai", "openai": {"trained": "vllm"}, "vllm": {"gpu_memory_utilization": 0.5}}
    [held] = [held for held in plan(config(engine=engine), A100).holdings if held.name == "generation"]
    assert held.gib == pytest.approx(0.5 * 80)


def test_a_scorer_of_eight_billion_parameters_takes_its_time_and_its_memory() -> None:
    """2 x 7.51e9 operations a token, at 0.4 of 312e12 a second: 8,310 tokens a second."""
    armo = config(scorer={"name": "multi-objective", "model": "hub:RLHFlow/ArmoRM-Llama3-8B-v0.1"})
    assert work.seconds(Read("score", 1e6), shape_of(LLAMA), armo, A100) == pytest.approx(1e6 / 8309, rel=1e-3)
    [scoring] = [held for held in plan(armo, A100).holdings if held.name == "scoring"]
    assert scoring.parts[0].bytes == 2 * 7_510_000_000
    assert not plan(armo, GPUS["t4"]).fits
    assert "scoring" not in {held.name for held in plan(config(), A100).holdings}
    tokens = {one.stage: one for one in work.of_iteration(armo, 1, 100, Lengths(60, 340, ""))}["score"]
    assert tokens.tokens == (3 * 36_000 + 2 * 100 + 6 * 100) * 400  # type: ignore[union-attr]
    ranker = config(scorer={"name": "pairwise", "model": "hub:llm-blender/PairRM-hf"})
    twice = {one.stage: one for one in work.of_iteration(ranker, 1, 100, Lengths(60, 340, ""))}["score"]
    assert twice.tokens == 2 * tokens.tokens  # type: ignore[union-attr]


def test_a_plan_is_told_in_one_line() -> None:
    told = plan(config(), A100).line
    assert "with a100-80gb" in told
    assert "does NOT fit" in told
    assert "for the whole run" in told


def test_one_answer_at_a_time_waits_for_the_weights_to_be_read() -> None:
    """16 GB of weights at 2,039 GB/s: 7.9 ms a token, at 0.2 of that roofline 39 ms."""
    shape = shape_of(LLAMA)
    made = config(engine={"batch_size": 1})
    seconds = work.seconds(Generate("x", 1, 0, 100), shape, made, A100)
    assert seconds == pytest.approx(100 * (2 * shape.parameters + 2 * shape.cache_per_token * 50) / 2039e9 / 0.2)


def test_what_a_server_answers_takes_no_time_here() -> None:
    made = config(engine={"kind": "openai"})
    lengths = Lengths(60, 350, "")
    first = {one.stage: one for one in work.of_iteration(made, 1, 100, lengths)}
    assert isinstance(first["draft with M_0"], Generate)
    assert first["draft with M_0"].remote
    assert not first["improve"].remote  # type: ignore[union-attr]
    second = {one.stage: one for one in work.of_iteration(made, 2, 100, lengths)}
    assert not second["draft with M_1"].remote  # type: ignore[union-attr]
    assert work.seconds(first["draft with M_0"], shape_of(LLAMA), made, A100) == 0


def test_the_pool_grows_with_the_iterations_unless_it_is_replaced() -> None:
    def pairs(t: int, mode: str) -> float:
        made = config(pool={"mode": mode})
        return sum(one.tokens for one in work.of_iteration(made, t, 100, Lengths(60, 350, "")) if "SimPO" in one.stage)  # type: ignore[union-attr]

    assert pairs(4, "append") == 4 * pairs(1, "append")
    assert pairs(4, "replace") == pairs(1, "replace")


def test_seeds_that_are_there_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": "p" * 40 + str(i), "gold": "g" * 400}) for i in range(10, 20)))
    made = plan(config(seeds=str(file)), A100)
    assert (made.seeds, made.lengths.prompt, made.lengths.answer) == (10, 10.5, 100)
    assert "measured" in made.lengths.told
    assert "assumed" in plan(config(), A100).lengths.told


def test_what_does_not_fit_comes_with_advice_and_following_it_helps() -> None:
    tight = plan(config(simpo={"micro_batch_size": 8}), A100)
    assert not tight.fits
    assert any("lora.r: 16" in line for line in tight.advice)
    lora = {"micro_batch_size": 1, "lora": {"r": 16}}
    followed = plan(config(simpo=lora, prompts={"train": lora}, improver={"train": lora}), A100)
    assert followed.fits
    assert followed.advice == []


@pytest.mark.parametrize("recipe", ["synpo", "sampling-ranking", "seed-sft", "seed-simpo"])
def test_every_recipe_has_a_plan(recipe: str) -> None:
    betas = {"betas": [2]} if recipe == "seed-simpo" else {}
    made = plan(config(recipe=recipe, simpo=betas), A100)
    assert made.hours > 0
    assert made.disk_gib > 15
    assert all(stage.hours >= 0 for stage in [*made.once, *made.first, *made.last])


def test_more_of_anything_takes_more() -> None:
    base = plan(config(), A100)
    assert plan(config(iterations=8), A100).hours > base.hours
    assert plan(config(prompts={"per_iteration": 72_000}), A100).hours > base.hours
    assert plan(config(), GPUS["h100"]).hours < base.hours
    assert plan(config(iterations=8), A100).disk_gib > base.disk_gib


def test_gpus_that_share_one_copy_of_the_weights_hold_a_part_of_it_each() -> None:
    """70.6 billion parameters in bfloat16: 131 GiB on one GPU, 33 on each of four."""
    shape = replace(shape_of(LLAMA), parameters=70_600_000_000)
    one, four = (config(engine={"kind": "vllm", "vllm": {"tensor_parallel": n}}).engine for n in (1, 4))
    whole, part = (memory.generation(shape, engine, 4096, 80 * memory.GIB) for engine in (one, four))
    assert whole[0].bytes == 4 * part[0].bytes == 2 * 70_600_000_000
    assert memory.total(whole) > 80 * memory.GIB > memory.total(part)
    assert memory.answers_together(shape, generator(one), 4096, 80 * memory.GIB) == 1
    assert memory.answers_together(shape, generator(four), 4096, 80 * memory.GIB) > 50


def test_g_and_r_are_counted_as_they_are_trained_and_not_as_the_policy_is() -> None:
    lora = {"lora": {"r": 16}, "micro_batch_size": 1}
    mixed = plan(config(simpo=lora, prompts={"train": {"micro_batch_size": 1}}, improver={"train": lora}), A100)
    fits = {held.name: held.fits for held in mixed.holdings}
    assert (fits["SFT of G"], fits["SFT of R"], fits["preference optimisation"]) == (False, True, True)
    adapters = plan(config(simpo=lora, prompts={"train": lora}, improver={"train": lora}), A100)
    count = shape_of(LLAMA).parameters
    weights_and_checkpoint = 2 * count + 12 * count - 4 * 41_943_040 - 12 * 41_943_040
    assert (mixed.disk_gib - adapters.disk_gib) * memory.GIB == pytest.approx(weights_and_checkpoint)


def test_a_race_keeps_every_beta_twice_and_a_checkpoint_of_each() -> None:
    count, betas = shape_of(LLAMA).parameters, {"betas": [2, 4, 6]}
    plain, race = (plan(config(simpo=betas | more), A100).disk_gib for more in ({}, {"race": 0.33}))
    assert (race - plain) * memory.GIB == pytest.approx(3 * 2 * count + (3 - 1) * 12 * count)


def test_a_limit_bounds_what_the_choice_of_beta_costs() -> None:
    def tested(**changes: Any) -> float:
        stages = work.of_iteration(config(**changes), 1, 18_000, Lengths(60, 350, ""))
        return sum(one.answers for one in stages if isinstance(one, Generate) and "choose beta" in one.stage)

    assert tested() == 6 * 18_000
    assert tested(validation={"limit": 512}) == 6 * 512
    assert tested(validation={"limit": 512}, simpo={"race": 0.33}) == 2 * 6 * 512
    assert tested(validation={"share": 0.01, "limit": 512}) == 6 * 180


def test_an_unknown_gpu_is_told_the_names() -> None:
    with pytest.raises(ConfigError, match="no GPU 'abacus'") as caught:
        gpu_called("abacus")
    assert "a100-80gb" in caught.value.hint


@pytest.mark.parametrize("name", starts())
def test_every_start_is_a_valid_commented_config_with_a_plan(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(start_text(name))
    made = plan(load(file), replace(A100, memory_gib=80))
    assert starts()[name]
    assert start_text(name).count("#") >= 5
    assert made.hours > 0


def test_the_start_for_a_small_gpu_fits_it(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(start_text("qwen-0.5b-lora"))
    assert plan(load(file), GPUS["rtx-4060ti-16gb"]).fits


def test_the_papers_start_fits_eight_large_gpus(tmp_path: Path) -> None:
    file = tmp_path / "paper.yaml"
    file.write_text(start_text("llama-3-8b-synpo"))
    assert plan(load(file), A100).fits
