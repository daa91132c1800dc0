"""Measure what a training sample costs: samples per second of the loader, and where the time goes.

A sample is a query, its templates and its labels; of a refiner an image, a render and their labels. Times
are of the CPU, so that other programs do not count.
"""

from __future__ import annotations

import cProfile
import math
import pstats
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType

import torch
from torch.utils.data import Dataset, Subset

from vpog_core.objects import scene_renderer
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic import photometry
from vpog_core.threads import use_one_thread
from vpog_core.training.data.batch import Batch, RefinerBatch
from vpog_core.training.data.bop_queries import AnnotatedQueries
from vpog_core.training.data.refiner_dataset import RefinerDataset
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.item_loader import ItemLoader
from vpog_core.training.losses.labels import matching_labels
from vpog_core.training.losses.refiner import refiner_labels
from vpog_core.training.synthesis import query_composer, query_layout, template_views


@dataclass
class Bench:
    """Holds the costs of a sample.

    Attributes:
        milliseconds: of CPU time, one process; stages: of it, by name, the rest as 'other'.
        floor: of it, rays.
        per_second: samples a second of `workers` processes by the clock; None without workers.
        worker_milliseconds: CPU time of a sample there.
    """

    milliseconds: float
    stages: dict[str, float]
    floor: float
    workers: int = 0
    per_second: float | None = None
    worker_milliseconds: float | None = None

    def text(self) -> str:
        """Return the costs as text."""
        lines = [
            f"one process: {self.milliseconds:.1f} ms of CPU time a sample, "
            f"{1e3 / self.milliseconds:.1f} samples/s"
        ]
        lines += [f"  {name:17s}{value:6.1f} ms" for name, value in self.stages.items()]
        ratio = self.milliseconds / max(self.floor, 1e-9)
        lines.append(f"  rays alone: {self.floor:.1f} ms; the whole is {ratio:.1f} times that")
        if self.per_second is not None:
            lines.append(
                f"{self.workers} workers: {self.per_second:.1f} samples/s by the clock, "
                f"{self.worker_milliseconds:.1f} ms of CPU time a sample"
            )
        return "\n".join(lines)


def bench(dataset: Dataset, items: int = 24, workers: int = 0) -> Bench:
    """Measure a training set.

    Args:
        items: items drawn for each measurement; workers: processes of the loader, 0 leaves that part out.
    """
    threads = torch.get_num_threads()
    use_one_thread()
    try:
        _take(dataset, range(2))
        begin = time.process_time()
        samples = _take(dataset, range(2, 2 + items))
        plain = 1e3 * (time.process_time() - begin) / samples
        profile = cProfile.Profile(time.process_time, builtins=False)
        profile.enable()
        samples = _take(dataset, range(2, 2 + items))
        profile.disable()
    finally:
        torch.set_num_threads(threads)
    stats = pstats.Stats(profile)
    # Profiling slows the code down: fractions come from the profiled run, the sum from the other.
    unit = plain / max(stats.total_tt, 1e-9)
    stages = {name: unit * _seconds(stats, functions) for name, functions in STAGES.items()}
    stages = {name: value for name, value in stages.items() if value > 0}
    stages["other"] = max(plain - sum(stages.values()), 0.0)
    out = Bench(plain, stages, unit * _seconds(stats, FLOOR))
    if workers:
        out.workers = workers
        out.per_second, out.worker_milliseconds = _loader(dataset, items, workers)
    return out


def _take(dataset: Dataset, items: range) -> int:
    """Draw items and label them; how many samples they were."""
    samples = 0
    for index in items:
        item = dataset[index]
        tensors = {key: torch.as_tensor(value)[None] for key, value in item.items()}
        _label(dataset.batch_type(**tensors), index)
        samples += _samples(dataset, item)
    return samples


def _label(batch: Batch | RefinerBatch, index: int) -> None:
    if isinstance(batch, RefinerBatch):
        refiner_labels(batch)
    else:
        matching_labels(batch, (index % 4, index // 4 % 4))


STAGES: dict[str, tuple[FunctionType, ...]] = {
    "layout": (query_layout.lay_out,),
    "background": (query_composer.background,),
    "render": (scene_renderer.render_scene,),
    "annotated images": (AnnotatedQueries.queries,),
    "degrade": (photometry.degrade,),
    "templates": (template_views.render_templates,),
    "reference": (VPOGTrainDataset._render_reference,),
    "start pose": (RefinerDataset._render,),
    "labels": (_label,),
}
FLOOR = (Renderer.cast, Renderer.blocked)
"""Ray casting: the part of the cost that optimising this code cannot reduce."""


def _samples(dataset: Dataset, item: Mapping) -> int:
    """Count the images of a camera in an item: the queries of a sample, or the one of a pair."""
    return math.prod(item[dataset.batch_type.IMAGES].shape[:-3])


def _seconds(stats: pstats.Stats, functions: Sequence[FunctionType]) -> float:
    """Return the profiled seconds of some functions, and of what they call."""
    codes = [function.__code__ for function in functions]
    places = [(code.co_filename, code.co_firstlineno, code.co_name) for code in codes]
    return sum(stats.stats[place][3] for place in places if place in stats.stats)


def _loader(dataset: Dataset, items: int, workers: int) -> tuple[float, float]:
    """Return samples a second, and milliseconds of the workers' CPU time for each, without their start."""
    first, count = 10_000, max(items, 4 * workers)
    loader = ItemLoader(Subset(dataset, range(first, first + count)), batch_size=None, num_workers=workers)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    samples, warm, begin = 0, 0, time.perf_counter()
    for number, item in enumerate(loader):
        samples += _samples(dataset, item)
        if number + 1 == workers:
            warm, begin = samples, time.perf_counter()
    seconds = time.perf_counter() - begin
    del loader
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (samples - warm) / max(seconds, 1e-9), 1e3 * spent / samples
