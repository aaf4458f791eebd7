"""What the benchmarks share: ways taking turns, bare matrix products, the machine in words, tables in files."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def settle(device: str) -> None:
    """Waits until a card has done what it was told."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(
    ways: dict[str, Callable[[], None]], steps: int, repetitions: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Microseconds a step of each way, the ways taking turns; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repetitions + 1):
        for name, run in ways.items():
            settle(device)
            start = time.perf_counter()
            run()
            settle(device)
            if turn > 0:
                times[name].append((time.perf_counter() - start) / steps * 1e6)
    return times


def peak(learn: Callable[[], object]) -> float:
    """MiB that this process grows by, at most, while it learns."""
    before = _most()
    learn()
    return _most() - before


def _most() -> float:
    """MiB that the process had at most; what `getrusage` says is also of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def in_a_process(file: str, *arguments: str) -> float:
    """The number that a benchmark says where it is called with these arguments."""
    command = [sys.executable, file, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def floor(rows: int, widths: list[int], first_gradient: bool) -> Callable[[], None]:
    """The matrix products of one step through layers of these widths: forward, weights, and inputs where wanted."""
    import torch

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape)

    values = [rand(rows, width) for width in widths]
    weights = [rand(out, into) for into, out in itertools.pairwise(widths)]
    gradients = [torch.empty_like(weight) for weight in weights]
    arriving = [torch.empty_like(value) for value in values]

    @torch.no_grad()
    def step() -> None:
        for k, weight in enumerate(weights):
            torch.mm(values[k], weight.t(), out=values[k + 1])
        for k in reversed(range(len(weights))):
            torch.mm(values[k + 1].t(), values[k], out=gradients[k])
            if k > 0 or first_gradient:
                torch.mm(values[k + 1], weights[k], out=arriving[k])

    for value in values:
        value.mul_(0.01)
    return step


def interval(values: list[float]) -> str:
    """The median, and where the middle half of the values is."""
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.3f} [{low:.3f}, {high:.3f}]"


def machine() -> str:
    """Processor and versions."""
    return f"{processor()}, {os.cpu_count()} cores, {versions()}."


def processor() -> str:
    """What the processor calls itself."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":")[1].strip() if names else platform.processor()


def versions() -> str:
    """System and versions."""
    import numpy
    import polytask
    import torch

    return (
        f"{platform.system()}; Python {platform.python_version()}, torch {torch.__version__}, NumPy "
        f"{numpy.__version__}, Polytask {polytask.__version__}"
    )


def write(path: Path, text: str, name: str = "speed") -> None:
    """Replaces what stands between the markers of a file."""
    before, _, after = _marked(path, name)
    path.write_text(f"{before}\n{text}\n{after}")


def stored(path: Path, name: str) -> str:
    """What stands between the markers of a file."""
    return _marked(path, name)[1].strip()


def _marked(path: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = path.read_text().split(begin)
    inner, after = rest.split(end)
    return before + begin, inner, end + after
