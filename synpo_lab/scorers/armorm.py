"""ArmoRM (Wang et al. 2024, arXiv 2406.12845, section 3): rewards for several objectives, weighed by what the prompt is.

The weights are those of RLHFlow/ArmoRM-Llama3-8B-v0.1, by their names there; the class of that repository asks for parts of
transformers that are gone. The heads are few numbers and stay in float32: gaps of 0.02 are decided by them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel

from synpo_lab.chat import encode_chats, encode_prompts
from synpo_lab.errors import ModelError

ARCHITECTURE = "LlamaForRewardModelWithGating"  # what a config.json of its kind names
OPENING = (
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"  # the gate reads the first token of its last one
)


@dataclass(frozen=True, slots=True)
class Chat:
    """Token ids of a prompt with its answer, and the place where the prompt ends."""

    ids: list[int]
    gate: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`score` [N] and `rewards` [N, objectives], under the names of the original's output."""

    score: Tensor
    rewards: Tensor


class Gating(nn.Module):
    """softmax(MLP(h) / temperature) x scale: a weight for each objective."""

    def __init__(self, width: int, objectives: int, *, hidden: int, depth: int, temperature: float) -> None:
        super().__init__()
        sizes = [width, *[hidden] * depth]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, [*sizes[1:], objectives], strict=True))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.temperature = temperature

    def forward(self, states: Tensor) -> Tensor:
        """[N, width] -> [N, objectives]."""
        *inner, last = self.layers
        for layer in inner:
            states = layer(states).relu()
        return (last(states) / self.temperature).softmax(dim=-1) * self.logit_scale  # type: ignore[no-any-return]


class ArmoRM(LlamaPreTrainedModel):  # type: ignore[misc]
    """The network, its parts named as in the published weights."""

    _keep_in_fp32_modules_strict = frozenset({"regression_layer", "reward_transform_matrix", "gating"})

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        objectives = getattr(config, "num_objectives", 19)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(objectives), requires_grad=False)
        self.gating = Gating(
            config.hidden_size,
            objectives,
            hidden=getattr(config, "gating_hidden_dim", 1024),
            depth=getattr(config, "gating_n_hidden", 3),
            temperature=getattr(config, "gating_temperature", 10.0),
        )
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, gates: Tensor) -> Verdict:
        """[N, T] ids and mask, padded on the right, and [N] places where the prompts end."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        row = torch.arange(len(states), device=states.device)
        rewards = self.regression_layer(states[row, attention_mask.sum(dim=1) - 1].float())
        weights = self.gating(states[row, gates].float())
        # The matrix takes out of every objective what is mere verbosity (section 3.2).
        return Verdict((weights * (rewards @ self.reward_transform_matrix)).sum(dim=-1), rewards)


def encode(tokenizer: Any, rows: Sequence[tuple[str, str]], most: int) -> list[Chat]:
    """Chats of at most `most` tokens: the prompt loses its start; an answer that is too long by itself, its end.

    The original looks for the last opening of an answer, which an answer may hold itself; here it is where the prompt ends.
    Raises ModelError where the chat template opens an answer in another way.
    """
    opening: list[int] = tokenizer(OPENING, add_special_tokens=False)["input_ids"]
    prompts = encode_prompts(tokenizer, [prompt for prompt, _ in rows])
    if any(prompt[-len(opening) :] != opening for prompt in prompts):
        raise ModelError(
            "the scorer's chat template does not open an answer as Llama 3's does, where ArmoRM's gate reads",
            hint="fetch its tokenizer again; a model of another family needs its repository's own code",
        )
    gates = (len(prompt) - len(opening) for prompt in prompts)
    return [_cut(ids, gate, most) for ids, gate in zip(encode_chats(tokenizer, rows), gates, strict=True)]


def _cut(ids: list[int], gate: int, most: int) -> Chat:
    start = min(max(0, len(ids) - most), gate)
    return Chat(ids[start : start + most], gate - start)
