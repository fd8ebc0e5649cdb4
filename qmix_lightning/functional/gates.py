"""The gates of a recurrent cell, in one pass over what its two layers say."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from qmix_lightning.functional.compiling import inlined, kernel

# In float32 throughout: a number of Python's would turn all into float64, which takes three times as long.
_ONE, _TWO = np.float32(1), np.float32(2)
_LOG2_E: Final = np.float32(1.4426950408889634)
_MOST = np.float32(126)  # whose power of two float32 still holds, as it does that of the negative
# The coefficients of 2^f beyond 1, fitted to |f| <= 1/2 with a relative error of 9e-8 at most.
_C1, _C2, _C3 = np.float32(0.69314698), np.float32(0.24022242), np.float32(0.05550734)
_C4, _C5 = np.float32(0.00967151), np.float32(0.00132647)
_WHOLE = np.float32(1.5 * 2**23)  # so large that a float32 beside it has no place for fractions
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@inlined
def _power_of_two(x: Any) -> Any:
    # Comparisons in this order let NaN pass.
    x = -_MOST if x < -_MOST else x
    x = _MOST if x > _MOST else x
    shifted = x + _WHOLE  # rounds x, which then stands in the last bits
    f = x - (shifted - _WHOLE)
    series = ((((_C5 * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _ONE
    # The power of the whole part, put together from its bits.
    return series * np.int32((np.float32(shifted).view(np.int32) + _BIAS) << _MANTISSA).view(np.float32)


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
        2014, with the reset gate behind the layer as cuDNN has it.
    """
    # Gates are an axis of their own: an index that is a sum might be negative for all the compiler knows, at twice the
    # price.
    n_rows, size = memory.shape
    for i in range(n_rows):
        for j in range(size):
            reset = _ONE / (_ONE + _power_of_two(-_LOG2_E * (x[i, 0, j] + c[0, j] + m[i, 0, j] + d[0, j])))
            update = _ONE / (_ONE + _power_of_two(-_LOG2_E * (x[i, 1, j] + c[1, j] + m[i, 1, j] + d[1, j])))
            inner = x[i, 2, j] + c[2, j] + reset * (m[i, 2, j] + d[2, j])
            inner = _ONE - _TWO / (_ONE + _power_of_two(_TWO * _LOG2_E * inner))
            new[i, j] = inner + update * (memory[i, j] - inner)
