"""The mean of several adapters for one model, as an adapter.

    change      D_i = B_i A_i
    mean        D   = (1/n) sum_i B_i A_i = [B_1 ... B_n] / n  [A_1; ...; A_n]        exact, of rank n r at most
    compressed  [B_1 ... B_n] / n = Q_B R_B    [A_1; ...; A_n]^T = Q_A R_A    R_B R_A^T = U S V^T
                D = (Q_B U) S (Q_A V)^T;    B = Q_B U S^(1/2),  A = S^(1/2) (Q_A V)^T

The mean of the factors is another thing: (1/n) sum B_i times (1/n) sum A_i has every product B_i A_j in it, and depends
on how the factors are scaled and rotated against one another. The singular values at the end of S are dropped as long
as they hold less than the rounding of the file's bfloat16: by Eckart and Young no adapter of that rank is nearer to the
mean.

Shapes   I inputs   O outputs   R rank;  a layer that an adapter lacks counts as zero
Dtypes   float64 inside, float32 outside
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from core.adapters.lora import Factors
from core.errors import AdapterProblem

ROUNDING = 2.0**-9  # half a step of bfloat16, relative
AT_LEAST = 2  # adapters

Matrix = npt.NDArray[np.float64]


def mean(adapters: Sequence[Factors]) -> dict[str, tuple[mx.array, mx.array]]:
    """(A, B) by module path of the mean of adapters whose alpha / rank is part of B.

    Raises AdapterProblem for fewer than two, and for adapters of other sizes.
    """
    if len(adapters) < AT_LEAST:
        raise AdapterProblem(f"A mean needs {AT_LEAST} adapters or more.")
    layers = dict.fromkeys(layer for factors in adapters for layer in factors)
    found: dict[str, tuple[mx.array, mx.array]] = {}
    for layer in layers:
        pairs = [factors[layer] for factors in adapters if layer in factors]
        if len({(a_RI.shape[1], b_OR.shape[0]) for a_RI, b_OR in pairs}) > 1:
            raise AdapterProblem(f"The adapters have different sizes of {layer}, so they are not of one model.")
        a_RI = np.concatenate([_float64(a) for a, _ in pairs])
        b_OR = np.concatenate([_float64(b) for _, b in pairs], axis=1) / len(adapters)
        a, b = compressed(a_RI, b_OR)
        found[layer] = (mx.array(a.astype(np.float32)), mx.array(b.astype(np.float32)))
    return found


def compressed(a_RI: Matrix, b_OR: Matrix) -> tuple[Matrix, Matrix]:
    """The factors of the lowest rank, at least 1, whose product is B A to within `ROUNDING` of its norm."""
    left_OK, low_KR = np.linalg.qr(b_OR)
    right_IK, upper_KR = np.linalg.qr(a_RI.T)
    u_KK, s_K, vt_KK = np.linalg.svd(low_KR @ upper_KR.T, full_matrices=False)
    tails = np.sqrt(np.cumsum((s_K**2)[::-1])[::-1])  # the norm of what is dropped from each place on
    rank = max(int(np.count_nonzero(tails > ROUNDING * tails[0])), 1)
    root_K = np.sqrt(s_K[:rank])
    return root_K[:, None] * (right_IK @ vt_KK[:rank].T).T, (left_OK @ u_KK[:, :rank]) * root_K


def _float64(value: mx.array) -> Matrix:
    return np.asarray(value.astype(mx.float32)).astype(np.float64)
