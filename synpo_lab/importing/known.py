"""Which 64-bit keys came before: eight bytes a key, so that millions of rows need tens of megabytes."""

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


class Known:
    """A growing set of keys, kept as sorted arrays that are merged as they grow (as a log-structured merge tree is)."""

    def __init__(self) -> None:
        self._sorted: list[Keys] = []

    def __len__(self) -> int:
        return sum(map(len, self._sorted))

    def first_seen(self, keys: Keys) -> NDArray[np.bool_]:
        """For each key [N] whether it stands neither earlier in `keys` nor in what was asked before; all are known now."""
        new = np.zeros(len(keys), bool)
        new[np.unique(keys, return_index=True)[1]] = True
        for known in self._sorted:
            places = np.searchsorted(known, keys)
            new &= known[np.minimum(places, len(known) - 1)] != keys
        self._add(np.sort(keys[new]))
        return new

    def _add(self, keys: Keys) -> None:
        if not len(keys):
            return
        while self._sorted and len(self._sorted[-1]) <= 2 * len(keys):
            keys = np.sort(np.concatenate([self._sorted.pop(), keys]))
        self._sorted.append(keys)
