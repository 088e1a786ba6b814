"""Run by test_launch: a model sharded over two processes (FSDP2), its preference loss in the place of its forward."""

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from synpo_lab import logps
from synpo_lab.config import SimPOConfig
from synpo_lab.training.preference import Preference
from tests.tiny_model import tiny_llama, tiny_tokenizer

PAIRS = [("w1 w2", "w3 w4", "w5"), ("w2", "w3", "w5 w6"), ("w1 w9", "w3 w7", "w5"), ("w2 w1", "w3", "w5 w8")]


def main() -> None:
    dist.init_process_group("gloo")
    logps.PLAIN_LOGITS = 1  # so that the head is walked in tiles
    tokenizer, rank = tiny_tokenizer(26), dist.get_rank()
    for tied in (True, False):
        whole, shards = (tiny_llama(len(tokenizer), tie_word_embeddings=tied) for _ in range(2))
        task = Preference(whole, tokenizer, PAIRS, SimPOConfig(max_length=64), 2)
        (task.loss(task.collate(task.rows))[0] / len(PAIRS)).backward()
        task = Preference(shards, tokenizer, PAIRS, SimPOConfig(max_length=64), 2)
        shards.forward = task.loss
        mesh = init_device_mesh("cpu", (2,))
        for layer in shards.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(shards, mesh=mesh)
        total, _ = shards(task.collate(task.rows[2 * rank : 2 * rank + 2]))
        (total / len(PAIRS) * 2).backward()  # two processes, whose gradients are averaged
        for (name, mine), (_, theirs) in zip(shards.named_parameters(), whole.named_parameters(), strict=True):
            torch.testing.assert_close(mine.grad.full_tensor(), theirs.grad, rtol=1e-4, atol=1e-5, msg=name)
        sys.stdout.write("the same\n")
    dist.destroy_process_group()


main()
