"""Products of matrices in compiled loops, by the routine of torch's library that torch itself calls.

A call from Python looks its tensors up, chooses a kernel and makes room, which for a hundred rows takes longer than to
multiply; and numba's own loops take 2.4 times as long as the routine for a thousand.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any, Final

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils as typed_cgutils
from numba.extending import intrinsic

cgutils: Any = typed_cgutils  # numba's types end here


def _find_sgemm() -> int:
    name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")
    try:
        routine = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name)).sgemm_
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(routine, ctypes.c_void_p).value or 0


SGEMM: Final = _find_sgemm()
"""Where torch's library has the routine ``sgemm`` of BLAS, 0 if it lends none. It is another place in each process, so
that kernels, whose code is kept on disk, must be told."""


def _multiply(_: Any, sgemm: Any, x: Any, weight: Any, out: Any, share: Any) -> Any:
    r"""Write ``x weight^T + share out`` into ``out``; for use inside kernels.

    Args:
        sgemm: :data:`SGEMM`, which must not be 0.
        x: ``[M, K]`` float32, its rows contiguous, and so in the others.
        weight: ``[N, K]`` float32, as of a :class:`torch.nn.Linear`.
        out: ``[M, N]`` float32; in memory of its own.
        share: float32, 0 or 1: how much of what was there remains.

    Source:
        Dongarra, Du Croz, Hammarling and Duff, "A set of level 3 basic linear algebra subprograms", 1990.
    """
    return types.void(types.intp, x, weight, out, types.float32), _call


def _call(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    kinds, (address, *arrays, share) = signature.args, values
    x, weight, out = (context.make_array(kind)(context, builder, a) for kind, a in zip(kinds[1:4], arrays, strict=True))
    sizes = [cgutils.unpack_tuple(builder, array.shape) for array in (x, weight, out)]
    strides = [cgutils.unpack_tuple(builder, array.strides)[0] for array in (x, weight, out)]
    widths = [builder.sdiv(stride, ir.Constant(_INTEGER, 4)) for stride in strides]

    def told(value: Any) -> Any:
        # Fortran is told everything by where it stands. Its integers have 32 bits or 64; the lower half comes first.
        return builder.bitcast(cgutils.alloca_once_value(builder, value), _ANYWHERE)

    # For Fortran, which goes through columns first, all three are transposed.
    no, yes = (told(ir.Constant(ir.IntType(8), ord(letter))) for letter in "NT")
    (m, k), (n, _) = sizes[:2]
    one = told(ir.Constant(ir.FloatType(), 1.0))
    arguments = [
        yes, no, told(n), told(m), told(k), one, weight.data, told(widths[1]), x.data, told(widths[0]), told(share),
        out.data, told(widths[2]),
    ]  # fmt: skip
    arguments = [builder.bitcast(argument, _ANYWHERE) for argument in arguments]
    routine = ir.FunctionType(ir.VoidType(), [_ANYWHERE] * len(arguments)).as_pointer()
    # Of no rows the width may be 0, at which routines complain, on standard output, before they see that none is there.
    with builder.if_then(builder.icmp_signed(">", m, m.type(0))):
        builder.call(builder.inttoptr(address, routine), arguments)
    return context.get_dummy_value()


multiply: Any = intrinsic(_multiply)
_INTEGER, _ANYWHERE = ir.IntType(64), ir.IntType(8).as_pointer()
