"""Results of slow steps, kept on disk so that an interrupted training goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
CPU_SECONDS = "cpu_seconds"


def cached(path: Path, make: Callable[[], Tensors]) -> Tensors:
    """The tensors stored at `path`; made and stored (atomically, with the CPU time it took) when not there yet."""
    if not path.exists():
        start = time.process_time()
        tensors = make()
        spent = torch.tensor(time.process_time() - start)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save({**tensors, CPU_SECONDS: spent}, partial)
        partial.replace(path)
    stored: Tensors = torch.load(path, weights_only=True)
    stored.pop(CPU_SECONDS, None)
    return stored


def cpu_minutes(folder: Path) -> dict[str, float | None]:
    """CPU time that each result in `folder` took to make; None where the run that made it did not record it."""
    spent = {path.stem: _cpu_seconds(path) for path in sorted(folder.glob("*.pt"))}
    return {step: None if seconds is None else round(seconds / 60, 1) for step, seconds in spent.items()}


def _cpu_seconds(path: Path) -> float | None:
    seconds = torch.load(path, weights_only=True, mmap=True).get(CPU_SECONDS)
    return None if seconds is None else float(seconds)
