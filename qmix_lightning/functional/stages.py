"""Kernels as stages of a compiled loop, which calls them by their address and knows nothing else of them.

To call a kernel from Python takes longer than what it does for a few battles: its arrays are looked up one by one, and
meanwhile the caches forget either Python or the battles. A loop that called kernels by name would have to be compiled
with all that they call, a simulator and a network, for each pair of these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import typeof
from numba import types as typed_types
from numba.core.typing.templates import Signature as TypedSignature
from numba.extending import intrinsic

from qmix_lightning.functional.compiling import kernel

types: Any = typed_types  # numba's types end here
Signature: Any = TypedSignature


class Stage(NamedTuple):
    """A kernel and the arrays that it works on, always the same: what may change is in them.

    Compiled code calls it by :data:`call`. Whoever keeps a stage keeps its arrays.
    """

    address: int
    arguments: tuple[Any, ...]


def stage_of(kernel: Any, *arguments: Any) -> Stage:
    """Have a kernel compiled for these arguments, or its code fetched from the disk.

    Args:
        kernel: Of :func:`~qmix_lightning.functional.compiling.kernel` or the like. It returns an integer and does not
            allocate. Arguments that have a default may be left out.
        arguments: Arrays, numbers, and tuples of these.

    Raises:
        TypeError: If the kernel returns anything but an integer of 64 bits.

    Example:
        >>> import numpy as np
        >>> from numba import njit
        >>> @njit
        ... def add_one(numbers):
        ...     numbers[0] += 1
        ...     return len(numbers)
        >>> @njit
        ... def twice(stage):
        ...     return call(stage) + call(stage)
        >>> stage = stage_of(add_one, np.zeros(3))
        >>> twice(stage), run(stage), stage.arguments[0]
        (6, 3, array([3., 0., 0.]))
    """
    kinds = tuple(map(typeof, arguments))
    defaults = kernel.py_func.__defaults__ or ()
    left_out = kernel.py_func.__code__.co_argcount - len(kinds)
    kinds += tuple(types.Omitted(value) for value in defaults[len(defaults) - left_out :])
    compiled = kernel.get_compile_result(Signature(None, kinds, None))
    if types.unliteral(compiled.signature.return_type) != types.int64:
        raise TypeError(
            f"A stage returns an integer of 64 bits, but {kernel.py_func.__name__} returns"
            f" {compiled.signature.return_type}."
        )
    return Stage(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name), arguments)


def is_own(owner: Any, name: str, function: Any = None) -> bool:
    """Whether a method is an object's own: neither replaced nor lent by another object that this one wraps.

    Who calls a stage instead of a method goes past what anyone put in the method's place.

    Args:
        owner: The object.
        name: Of its method.
        function: What the method must be, as its class defines it; None if any of the object's own will do.

    Example:
        >>> numbers = Stage(0, ())
        >>> is_own(numbers, "_replace", Stage._replace), is_own(numbers, "_replace", Stage._asdict)
        (True, False)
    """
    method = getattr(owner, name, None)
    return getattr(method, "__self__", None) is owner and (
        function is None or getattr(method, "__func__", None) is function
    )


def _call(_: Any, stage: Any) -> Any:
    """Call a :class:`Stage`; for use inside kernels. It returns what the stage returns."""
    return types.int64(stage), _call_by_address


def _call_by_address(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    kinds = signature.args[0].types[1].types
    address, arguments = (builder.extract_value(values[0], i) for i in range(2))
    unpacked = [builder.extract_value(arguments, i) for i in range(len(kinds))]
    kernel = context.call_conv.get_function_type(types.int64, kinds)
    where = builder.inttoptr(address, kernel.as_pointer())
    status, result = context.call_conv.call_function(builder, where, types.int64, kinds, unpacked)
    with builder.if_then(status.is_error, likely=False):
        context.call_conv.return_status_propagate(builder, status)
    return result


call: Any = intrinsic(_call)


@kernel
def run(stage: Any) -> int:
    """Call a stage from Python."""
    return int(call(stage))
