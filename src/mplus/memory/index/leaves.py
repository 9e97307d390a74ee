"""Leaves of similar search keys, for the search of one layer. Knows tensors; nothing of stores, models or what a score is.

Legend: R key width, n rows of a group, W rows of a leaf, m leaves, p branches (of as many leaves each), T queries.

Neighbours in a layer's store are tokens of different texts, since every layer drops its own at random; so rows of a group are put
together by likeness instead: cut in two equal halves along the direction in which they vary most, again and again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LEAF_ROWS = 16
BRANCH_LEAVES = 16
DIRECTIONS = 8  # main directions of a group along which it may be cut
BROAD = 8  # rows below the branches that are looked into, per row asked for

Score = Callable[[Tensor], Tensor]
"""Keys [k, R] to scores [k]."""


class Leaves:
    """Mean keys of leaves and of branches of leaves, and which rows stand in them, for all rows but the newest.

    Every tensor is replaced, never written to, so forks share them.
    """

    group_rows = 16_384

    def __init__(self, *, group_rows: int | None = None) -> None:
        self.group_rows = group_rows or type(self).group_rows
        smallest = LEAF_ROWS * BRANCH_LEAVES
        if self.group_rows % smallest or (self.group_rows // smallest).bit_count() != 1:
            raise AssertionError(f"a group is {smallest} rows times a power of two, got {self.group_rows}")
        self._branches: Tensor | None = None  # [p, R]
        self._leaves = torch.empty(0)  # [m, R]
        self._rows = torch.empty(0, LEAF_ROWS, dtype=torch.int16)  # [m, W] places in the group
        self._start = 0  # forgotten rows of the first group

    def __len__(self) -> int:
        """Rows summarised and held."""
        return self._rows.numel() - self._start

    @property
    def size_bytes(self) -> int:
        """Bytes of all summaries."""
        tensors = [self._leaves, self._rows, *([] if self._branches is None else [self._branches])]
        return sum(part.numel() * part.element_size() for part in tensors)

    def add(self, keys_nR: Tensor) -> None:
        """Summarise one group of rows [group_rows, R], the newest."""
        keys = keys_nR.float()
        rows = similar(keys, LEAF_ROWS)
        leaves = keys[rows].mean(1)
        branches = leaves.view(-1, BRANCH_LEAVES, leaves.shape[1]).mean(1)
        small = rows.to(torch.int16)
        if self._branches is None:
            self._branches, self._leaves, self._rows = branches, leaves, small
        else:
            self._branches = torch.cat([self._branches, branches])
            self._leaves, self._rows = torch.cat([self._leaves, leaves]), torch.cat([self._rows, small])

    def forget(self, rows: int) -> None:
        """Let go of the oldest rows, in O(rows); a group's summaries go with its last row."""
        self._start += min(rows, len(self))
        groups, self._start = divmod(self._start, self.group_rows)
        if groups and self._branches is not None:
            leaves = groups * self.group_rows // LEAF_ROWS
            self._branches = self._branches[leaves // BRANCH_LEAVES :]
            self._leaves, self._rows = self._leaves[leaves:], self._rows[leaves:]
            if not self._rows.numel():
                self._branches = None

    def fork(self) -> Leaves:
        """A copy that shares nothing that can change."""
        twin = Leaves(group_rows=self.group_rows)
        twin._branches, twin._leaves, twin._rows, twin._start = self._branches, self._leaves, self._rows, self._start
        return twin

    def candidates(self, score: Score, count: int) -> Tensor:
        """Places [about `count`] of rows that probably score high, ascending, counted from the oldest row held.

        The best branches by their mean key are looked into, and the best of their leaves are taken whole.

        Args:
            score: what the rows will be judged by.
        """
        if self._branches is None:
            return torch.empty(0, dtype=torch.int64)
        branches = self._branches.shape[0]
        broad = min(branches, -(-count * BROAD // (LEAF_ROWS * BRANCH_LEAVES)))
        best = torch.arange(branches) if broad == branches else score(self._branches).topk(broad).indices.cpu()
        leaves = (best[:, None] * BRANCH_LEAVES + torch.arange(BRANCH_LEAVES)).flatten()
        taken = min(leaves.shape[0], -(-count // LEAF_ROWS))
        if taken < leaves.shape[0]:
            leaves = leaves[score(self._leaves[leaves]).topk(taken).indices.cpu()]
        group = torch.div(leaves, self.group_rows // LEAF_ROWS, rounding_mode="floor")
        rows = (self._rows[leaves].long() + (group * self.group_rows - self._start)[:, None]).flatten()
        return rows[rows >= 0].sort().values


def similar(keys_nR: Tensor, leaf: int) -> Tensor:
    """Rows put together by likeness: [n / leaf, leaf] row numbers, neighbouring leaves the more alike.

    Args:
        keys_nR: float32; n is `leaf` times a power of two.
    """
    count = keys_nR.shape[0]
    centred = keys_nR - keys_nR.mean(0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -DIRECTIONS:]
    places = (centred @ directions).T.contiguous()  # [DIRECTIONS, n]
    rows = torch.arange(count)
    size = count
    while size > leaf:
        spread = places.view(places.shape[0], -1, size).var(2, correction=0)
        along = spread.argmax(0)
        line = places.view(places.shape[0], -1, size)[along, torch.arange(along.shape[0])]
        order = (line.argsort(1) + torch.arange(0, count, size)[:, None]).flatten()
        rows, places = rows[order], places[:, order]
        size //= 2
    return rows.view(-1, leaf)
