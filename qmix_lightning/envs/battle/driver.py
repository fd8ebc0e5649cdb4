"""What must be there before battles can be fought on a GPU."""

from __future__ import annotations

from importlib.util import find_spec

import torch


def require_gpu() -> None:
    """Refuse to go on without a GPU that torch and numba can use, or numba's simulator of one.

    Raises:
        RuntimeError: Saying what is missing, and how to get it.
    """
    cuda_of_torch = torch.version.cuda
    torch_sees = torch.cuda.is_available()
    simulated, trouble = False, "it has no numba.cuda"
    if find_spec("numba.cuda") is not None:
        from numba import cuda
        from numba.core import config

        simulated = bool(config.ENABLE_CUDASIM)
        if torch_sees and not simulated:
            trouble = "" if cuda.is_available() else str(cuda.cuda_error() or "its compiler NVVM was not found")
    if not simulated and (missing := what_is_missing(cuda_of_torch, torch_sees, trouble)):
        raise RuntimeError(missing)


def what_is_missing(cuda_of_torch: str | None, torch_sees: bool, trouble: str) -> str:
    """Why there can be no battles on a GPU, and what to do; empty if nothing is missing.

    Args:
        cuda_of_torch: Version of CUDA that torch was built for, None if for none.
        torch_sees: Whether torch has found a GPU.
        trouble: Why numba can compile nothing for it; empty if it can.

    Example:
        >>> what_is_missing("13.0", True, "")
        ''
    """
    if cuda_of_torch is None:
        cause = f"torch {torch.__version__} was built without CUDA"
        cure = "Install one with it: pip install torch --index-url https://download.pytorch.org/whl/cu130"
    elif not torch_sees:
        cause = f"torch, built for CUDA {cuda_of_torch}, finds no GPU"
        cure = "nvidia-smi shows whether there is one, and the driver"
    elif trouble:
        cause = f"numba cannot compile for it: {trouble}"
        cure = f"pip install 'numba-cuda[cu{cuda_of_torch.split('.')[0]}]'"
    else:
        return ""
    return f"Battles on device 'cuda' need an NVIDIA GPU, but {cause}. {cure}, or use device 'cpu'."
