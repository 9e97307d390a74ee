"""Memory tokens that stand for several neighbouring text tokens: means of keys and values, the search keys of all. Knows no model.

Legend: n text tokens, r tokens of a row, m rows (the last may stand for fewer), F search key width.

Keys are pooled before rotation. A search key is kept for each text token, [m, r, F], so that a row is found by its best one; where the last
row stands for fewer than r, its last key is repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.memory.rows import Rows


def pooled(rows: Rows, tokens_per_row: int) -> Rows:
    """Rows [G, m, ...] of the fields [G, n, ...] of text tokens; as they are where a row stands for one."""
    if tokens_per_row == 1:
        return rows
    return {
        name: side_by_side(value, tokens_per_row) if name == "search" else means(value, tokens_per_row)
        for name, value in rows.items()
    }


def means(values_Gn: Tensor, tokens_per_row: int) -> Tensor:
    """Means [G, m, ...] of neighbours [G, n, ...], added one by one, so that a mean does not depend on how numbers lie in a tensor."""
    rows, rest = divmod(values_Gn.shape[1], tokens_per_row)
    whole = _mean(values_Gn[:, : rows * tokens_per_row].unflatten(1, (rows, tokens_per_row)))
    return torch.cat([whole, _mean(values_Gn[:, None, -rest:])], 1) if rest else whole


def side_by_side(keys_GnF: Tensor, tokens_per_row: int) -> Tensor:
    """[G, m, r, F] of search keys [G, n, F]."""
    missing = -keys_GnF.shape[1] % tokens_per_row
    if missing:
        keys_GnF = torch.cat([keys_GnF, keys_GnF[:, -1:].expand(-1, missing, -1)], 1)
    groups, count, width = keys_GnF.shape
    return keys_GnF.reshape(groups, count // tokens_per_row, tokens_per_row, width)


def best_of_row(match_tn: Tensor, keys: Tensor) -> Tensor:
    """Best match [t, m] within each row, of matches [t, m r] with search keys [m, r, F]; as they are for keys [m, F]."""
    if keys.dim() == 2:
        return match_tn
    best: Tensor = match_tn.view(match_tn.shape[0], *keys.shape[:2]).amax(-1)
    return best


def _mean(groups: Tensor) -> Tensor:
    """Mean over dimension 2."""
    wide = torch.promote_types(groups.dtype, torch.float32)
    total = groups[:, :, 0].to(wide)
    for place in range(1, groups.shape[2]):
        total = total + groups[:, :, place].to(wide)
    return (total / groups.shape[2]).to(groups.dtype)
