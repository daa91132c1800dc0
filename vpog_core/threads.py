"""Choose how many threads torch, OpenCV and estimators use, and what they do while they wait."""

from __future__ import annotations

import math
import os
from pathlib import Path

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}
"""Environment in which idle threads sleep: OpenMP of GNU (torch), of Intel and LLVM, OpenBLAS (numpy)."""


def wait_passively() -> None:
    """Make threads sleep while they wait for work; call it before numpy, OpenCV or torch is imported.

    By default OpenMP's threads spin, and one that spins takes the core from the thread it waits for: where
    anything else runs on the CPU, the network becomes several times slower. What the user has set in the
    environment stays.
    """
    if os.environ.get("OMP_WAIT_POLICY", "PASSIVE").upper() != "PASSIVE":
        return
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)


def use_threads(count: int = 0) -> int:
    """Set how many threads torch and OpenCV use, and return it.

    Estimators let as many threads share the detections of an image (`inference.detection_threads`). Embree
    needs none: rays are cast in the thread that asks.

    Args:
        count: 0 takes `default_threads()`. `OMP_NUM_THREADS` in the environment, where it is set, goes
            before any count.
    """
    import cv2
    import torch

    count = threads_of_environment() or count or default_threads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    return count


def use_one_thread() -> None:
    """Make torch and OpenCV work in the thread that calls them, as in one of several processes.

    OpenCV makes no threads then (they would not survive a fork).
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def threads_of_environment() -> int:
    """Return the number in `OMP_NUM_THREADS`, the first of a list; 0 where there is none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def default_threads() -> int:
    """Return the number of cores this process may use, less one for everything else."""
    return max(1, usable_cores() - 1)


def usable_cores() -> int:
    """Return the number of cores this process may use: by its affinity, and by its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        groups = Path("/proc/self/cgroup").read_text()
    except OSError:
        return cores
    return max(1, math.floor(min(cores, cpu_quota(groups))))


def cpu_quota(groups: str, root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the CPU quota of control groups (versions 1 and 2), in cores; infinite without a limit.

    Args:
        groups: the text of /proc/self/cgroup; root: where control groups are mounted.
    """
    quotas = [math.inf]
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "cpu" if controllers else root
        # In a container the path may be that of the host; the group is then mounted at the root.
        group = Path(path.lstrip("/"))
        quotas += [_quota(mounted / folder) for folder in (group, *group.parents)]
    return min(quotas)


def _quota(folder: Path) -> float:
    """Return the limit of one control group, in cores."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        # "max" and -1 are no limit.
        return float(quota) / float(period) if float(quota) > 0 and float(period) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf
