"""Log-probs of answers under a transformers model, from its last hidden states and its output head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from synpo_lab.chat import Example
from synpo_lab.logps import Head, owner_means, token_logps
from synpo_lab.training.batches import Tensors, collate, collate_pairs, pair_mask

ROUNDINGS = 4  # of the weights' dtype by which two ways to the same number may differ


class AnswerLogps:
    """Scores the answers in batches made by training.batches.

    The logits of prompts are never made. What a model does to its logits after the head (a scale, a soft cap) is read
    from its config and tried once against the model's own logits; where the two differ all the same, the model's full
    logits are used: more memory, the same numbers.
    """

    def __init__(self, model: Any) -> None:
        self._model = bare(model)
        self._decoder, self._output = self._model.get_decoder(), self._model.get_output_embeddings()
        self._scale, self._cap = _after_the_head(self._model.config.get_text_config())
        self._linear = type(self._output) is nn.Linear  # now: a sharding wrapper changes its class
        self._has_states = self._output is not None and self._agrees()
        if not self._has_states:
            self._decoder = self._model.forward  # as it is now: a training puts its loss in that place

    @property
    def notes(self) -> list[str]:
        """In sentences, what costs more than it has to."""
        return [] if self._has_states else ["all logits are held at once: what its head does is not known here"]

    def tokens(self, batch: Tensors) -> Tensor:
        """Log-prob [N] of each answer token."""
        states, head = self.states(batch)
        return token_logps(states, head, batch["target"])

    def states(self, batch: Tensors) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What scores the answer tokens: hidden states [N, D], and the head that makes logits [N, V] of them."""
        inputs = {"input_ids": batch["input_ids"], "use_cache": False}
        if "borders" in batch:
            inputs["position_ids"] = batch["position_ids"]
            inputs["attention_mask"] = pair_mask(batch["borders"], batch["input_ids"].shape[1])
        output = self._decoder(**inputs)
        states = output.last_hidden_state if self._has_states else output.logits
        return states.flatten(0, 1)[batch["source"]], self._head()

    def _head(self) -> Callable[[Tensor], Tensor]:
        """Made anew each time: a sharding wrapper may have put other tensors in the place of the weights."""
        if not self._has_states:
            return nn.Identity()
        if self._linear:
            return Head(self._output.weight, self._output.bias, self._scale, self._cap)
        return _CalledHead(self._output, Head(_NOTHING, None, self._scale, self._cap).shape)

    def means(self, batch: Tensors) -> Tensor:
        """Mean log-prob per token of each answer: [B] of a `collate` batch, [2B] of a `collate_pairs` one."""
        answers = len(batch["input_ids"]) * (2 if "borders" in batch else 1)
        return owner_means(self.tokens(batch), batch["owner"], answers)

    @torch.no_grad()
    def can_share_prompts(self) -> bool:
        """Whether a pair can be read as one row, the prompt once: tried on one pair, against two separate rows.

        A model with windows or recurrent states cannot; nor one whose attention takes no such mask. In bfloat16 what a
        rejected answer would gain by seeing the chosen one can be less than rounding is allowed: so what is left of it has
        to be less than half of that, too.
        """
        config = self._model.config
        if config._attn_implementation != "sdpa":
            return False
        if not all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers):
            return False
        ids = _some_ids(self._model)[0].tolist()
        pair = (Example(ids[:3], ids[3:6]), Example(ids[:3], ids[4:]))
        shared = collate_pairs([pair], 0)
        seeing = shared | {"borders": shared["borders"] + len(ids)}  # beyond the row: nothing is hidden
        batches = (collate(pair, 0), shared, seeing)
        apart, together, mixed = (self.means(_to(self._model.device, batch)).float() for batch in batches)
        hidden = (together - apart)[1].abs() <= (mixed - apart)[1].abs() / 2  # of the rejected answer
        return bool(hidden) and self._close(together, apart)

    @torch.no_grad()
    def _agrees(self) -> bool:
        self._has_states = True
        ids, head = _some_ids(self._model), self._head()
        found: Tensor = head(self._decoder(input_ids=ids, use_cache=False).last_hidden_state)
        expected = self._model(input_ids=ids, use_cache=False).logits
        return found.shape == expected.shape and self._close(found.float(), expected.float())

    def _close(self, one: Tensor, other: Tensor) -> bool:
        slack = max(1e-3, ROUNDINGS * _rounding(self._model))
        return torch.allclose(one, other, rtol=slack, atol=slack)


_NOTHING = torch.empty(0)


@dataclass(frozen=True, slots=True)
class _CalledHead:
    """A head that is more than a matrix (it has an adapter, say), and what its model does to the logits after it."""

    module: Any
    shape: Callable[[Tensor], Tensor]

    def __call__(self, states: Tensor) -> Tensor:
        return self.shape(self.module(states))

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.module.weight
        return weight


def bare(model: Any) -> Any:
    """The causal language model inside an adapter's wrapper, its layers still adapted; else `model`."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _rounding(model: Any) -> float:
    """Of the narrowest dtype it computes in: that of some weights; bfloat16 where a quantised layer is called."""
    found = {p.dtype for p in model.parameters() if p.is_floating_point()}
    found |= {torch.bfloat16} if getattr(model, "is_quantized", False) else set()
    return max(torch.finfo(dtype).eps for dtype in found)


def _after_the_head(config: Any) -> tuple[float, float | None]:
    """Scale and soft cap of the logits: Cohere multiplies, Granite divides, Gemma caps."""
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    return float(scale), getattr(config, "final_logit_softcapping", None)


def _to(device: torch.device, batch: Tensors) -> Tensors:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _some_ids(model: Any) -> Tensor:
    return torch.arange(8, device=model.device).remainder(model.get_input_embeddings().num_embeddings).unsqueeze(0)
