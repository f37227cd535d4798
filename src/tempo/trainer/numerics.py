"""Which kernels torch takes and how many bits they keep: settings of the whole process."""

from __future__ import annotations

import torch


def set_numerics(*, deterministic: bool, matmul_precision: str) -> None:
    """What `trainer.deterministic` and `trainer.matmul_precision` stand for, beside Lightning."""
    torch.backends.cudnn.benchmark = not deterministic
    torch.set_float32_matmul_precision(matmul_precision)
    torch.backends.cudnn.allow_tf32 = (
        matmul_precision != "highest"
    )  # convolutions, which torch leaves at TF32
    # Deterministic algorithms would first fill with NaN all memory that a kernel is about to write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
