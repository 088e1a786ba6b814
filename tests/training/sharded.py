"""Run by test_launch: models sharded over two processes as accelerate shards them, a preference loss for their forward."""

import sys
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from transformers import Gemma2Config, Gemma2ForCausalLM

from synpo_lab import logps
from synpo_lab.config import SimPOConfig
from synpo_lab.training.preference import Preference, _reference
from synpo_lab.training.trainer import keep_outputs_exact
from tests.tiny_model import tiny_llama, tiny_tokenizer

PAIRS = [("w1 w2", "w3 w4", "w5"), ("w2", "w3", "w5 w6"), ("w1 w9", "w3 w7", "w5"), ("w2 w1", "w3", "w5 w8")]
TOKENIZER = tiny_tokenizer(26)


def tied() -> Any:
    return tiny_llama(len(TOKENIZER), tie_word_embeddings=True)


def untied() -> Any:
    return tiny_llama(len(TOKENIZER), tie_word_embeddings=False)


def capped() -> Any:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5, initializer_range=0.4, pad_token_id=0,
    )  # fmt: skip
    return Gemma2ForCausalLM(config).eval()


def sharded(model: Any, precision: str = "no") -> Any:
    """As Accelerator.prepare does, which it does on GPUs only."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    if precision != "no":
        plugin.set_mixed_precision(precision)
        keep_outputs_exact(plugin)
    state, device = SimpleNamespace(fsdp_plugin=plugin), torch.device("cpu")
    accelerator = SimpleNamespace(state=state, mixed_precision=precision, is_main_process=False, device=device)
    return fsdp2_prepare_model(accelerator, model)


def gradients_are_those_of_the_whole(make: Any) -> None:
    whole, shards = make(), make()
    task = Preference(whole, TOKENIZER, PAIRS, SimPOConfig(max_length=64), 2)
    (task.loss(task.collate(task.rows))[0] / len(PAIRS)).backward()
    task, rank = Preference(shards, TOKENIZER, PAIRS, SimPOConfig(max_length=64), 2), dist.get_rank()
    heads: list[Any] = []
    states = task._logps.states
    task._logps.states = lambda batch: (found := states(batch), heads.append(found[1]))[0]  # type: ignore[method-assign]
    shards.forward = task.loss
    shards = sharded(shards)
    for _ in range(2):  # the second as the first
        shards.zero_grad()
        total, _ = shards(task.collate(task.rows[2 * rank : 2 * rank + 2]))
        (total / len(PAIRS) * 2).backward()  # two processes, whose gradients are averaged
    assert all(isinstance(head, logps.Head) for head in heads), heads
    for (name, mine), (_, theirs) in zip(shards.named_parameters(), whole.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad.full_tensor(), theirs.grad, rtol=1e-4, atol=1e-5, msg=name)


def the_reference_and_the_loss_are_not_rounded() -> None:
    model = untied()
    task = Preference(model, TOKENIZER, PAIRS, SimPOConfig(kind="dpo", betas=[0.1], max_length=64), 0.1)
    seen: list[torch.Tensor] = []

    def loss(batch: Any) -> Any:
        total, sums = task.loss(batch)
        seen.extend([torch.stack(_reference(batch), 1), total.detach()])
        return total, sums

    model.forward = loss
    total, _ = sharded(model, "bf16")(task.collate(task.rows))
    assert torch.equal(seen[0], torch.tensor([means for *_, means in task.rows]))
    assert total.dtype == torch.float32
    assert total.item() == seen[1].item()


def main() -> None:
    dist.init_process_group("gloo")
    logps.PLAIN_LOGITS = 1  # so that the head is walked in tiles
    for make in (tied, untied, capped):
        gradients_are_those_of_the_whole(make)
        sys.stdout.write("the same\n")
    the_reference_and_the_loss_are_not_rounded()
    sys.stdout.write("not rounded\n")
    dist.destroy_process_group()


main()
