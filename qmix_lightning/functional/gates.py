"""The gates of a recurrent cell, in one pass over what its two layers say."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from qmix_lightning.functional.compiling import inlined, kernel

# In float32 throughout: a number of Python's would turn all into float64, which takes three times as long.
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)
_LEAST, _MOST = np.float32(-87), np.float32(87)  # whose exponentials float32 still holds
_LOG2_E: Final = np.float32(1.4426950408889634)
# log 2 in two parts, the first of which has so few digits that its multiples are exact.
_LOG_2, _REST = np.float32(0.693359375), np.float32(-2.12194440e-4)
# The coefficients of the Taylor series beyond 1 + r, fitted to |r| <= log(2) / 2.
_C2, _C3, _C4 = np.float32(0.50000001201), np.float32(0.16666665459), np.float32(0.041665795894)
_C5, _C6, _C7 = np.float32(0.0083334519073), np.float32(0.0013981999507), np.float32(0.00019875691500)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@inlined
def _exponential(x: Any) -> Any:
    # Comparisons in this order let NaN pass.
    x = _LEAST if x < _LEAST else x
    x = _MOST if x > _MOST else x
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LOG_2 - n * _REST
    series = (((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r * r + r + _ONE
    # The power of two, put together from its bits.
    return series * np.int32((np.int32(n) + _BIAS) << _MANTISSA).view(np.float32)


@kernel
def gru_memory(x: Any, m: Any, c: Any, d: Any, memory: Any, new: Any) -> None:
    r"""Write what a GRU remembers, from what its layers make of input and memory.

    .. math::
        r = σ(x_r + c_r + m_r + d_r), \quad z = σ(x_z + c_z + m_z + d_z), \quad
        n = \tanh(x_n + c_n + r (m_n + d_n)), \quad h' = n + z (h - n)

    That of :func:`torch.gru_cell` but for roundings, which takes half again as long for a tensor of each step of this.

    Args:
        x: ``[M, 3, H]`` float32, what the weights make of the input: for reset gate, update gate and new memory.
        m: ``[M, 3, H]``, what they make of the memory.
        c: ``[3, H]``, the bias of the input.
        d: ``[3, H]``, the bias of the memory.
        memory: ``h``, ``[M, H]``.
        new: ``h'``, ``[M, H]``, which is written.

    Example:
        >>> ones, new = np.ones((1, 3, 1), np.float32), np.empty((1, 1), np.float32)
        >>> gru_memory(ones, ones, 0 * ones[0], 0 * ones[0], 0 * new, new)
        >>> new.round(4)
        array([[0.1138]], dtype=float32)

    Source:
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
        2014, with the reset gate behind the layer as cuDNN has it; the exponential after Moshier's Cephes library.
    """
    # Gates are an axis of their own: an index that is a sum might be negative for all the compiler knows, at twice the
    # price.
    n_rows, size = memory.shape
    for i in range(n_rows):
        for j in range(size):
            reset = _ONE / (_ONE + _exponential(-(x[i, 0, j] + c[0, j] + m[i, 0, j] + d[0, j])))
            update = _ONE / (_ONE + _exponential(-(x[i, 1, j] + c[1, j] + m[i, 1, j] + d[1, j])))
            inner = x[i, 2, j] + c[2, j] + reset * (m[i, 2, j] + d[2, j])
            inner = _ONE - _TWO / (_ONE + _exponential(_TWO * inner))
            new[i, j] = inner + update * (memory[i, j] - inner)
