"""The numbers of every pair of a run as columns: what checks look at that need no texts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Facts:
    """One entry per pair in every column [N], by iteration and id; of equal rows the first of its file first. NaN: not known."""

    iteration: Wholes
    pair_id: Any  # an Arrow array of strings: a tenth of the memory that Python's take
    kept: Flags
    len_chosen: Floats  # characters
    len_rejected: Floats
    chosen_score: Floats
    rejected_score: Floats
    gap: Floats
    similarity: Floats
    identical: Flags
    empty_chosen: Flags
    empty_rejected: Flags
    cut_chosen: Flags  # at the token limit
    cut_rejected: Flags
    prompt_key: Wholes
    row_key: Wholes
    swapped_key: Wholes
    lot: Wholes

    @classmethod
    def of(cls, table: Any) -> "Facts":
        """From `storage.queries.health.pair_facts`."""
        columns = {name: _column(table, name, kind) for name, kind in _KINDS.items()}
        ids = table.column("pair_id").combine_chunks() if table.num_rows else []
        return cls(pair_id=ids, **columns)

    def __len__(self) -> int:
        return len(self.iteration)

    @property
    def trained_on(self) -> Flags:
        """The pairs that shares are of: the kept ones, or all where none is kept."""
        return self.kept if self.kept.any() else np.ones(len(self), bool)

    def id_of(self, row: int) -> str:
        return str(self.pair_id[row])


_KINDS: dict[str, type] = {
    "iteration": np.int64,
    **dict.fromkeys(("kept", "identical", "empty_chosen", "empty_rejected", "cut_chosen", "cut_rejected"), np.bool_),
    **dict.fromkeys(("len_chosen", "len_rejected", "chosen_score", "rejected_score", "gap", "similarity"), np.float64),
    **dict.fromkeys(("prompt_key", "row_key", "swapped_key", "lot"), np.int64),
}


def _column(table: Any, name: str, kind: type) -> Any:
    if not table.num_rows:
        return np.zeros(0, kind)
    # An integer column without nulls keeps all its bits; a number that is not known becomes NaN.
    return table.column(name).to_numpy(zero_copy_only=False).astype(kind)
