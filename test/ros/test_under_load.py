"""The real node under load: more frames than it can answer, for as long as VPOG_LOAD_SECONDS says.

Latency, memory and the fraction of the CPU are printed; only what does not hang on the machine is checked.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from vpog_core.messages.reading import stamp_to_ns
from vpog_core.synthetic.scene import make_scene
from vpog_core.types import Detection

SECONDS = float(os.environ.get("VPOG_LOAD_SECONDS", "8"))
RATE_HZ = 30
OBJECTS = 4
FRAMES = 8
"""Images that are sent in turn, there and back, a tenth of a second apart."""
GROWTH_MIB = 60
"""Encoded templates are kept, up to some 20 MiB an object, and allocators keep pages; every frame held is
27 MiB a second."""
WAIT_S = 120.0
COUNTED = "images received", "frames matched", "images without detections", "frames dropped, node busy"


@pytest.fixture(scope="module")
def frames(carton):
    """Images of a scene with four objects, and their detections."""
    scene = make_scene(12, [carton] * OBJECTS, distractors=0)
    made = []
    for n in range(FRAMES):
        frame = scene.render(0.1 * n)
        boxes = enumerate(frame.boxes_visible)
        made.append((frame.image, scene.camera, [Detection("carton", b, 0.9, instance=k) for k, b in boxes]))
    return made + made[-2:0:-1]


@pytest.fixture(scope="module")
def node(start_node, client, carton_dir, carton_cache):
    node = start_node(objects_dir=carton_dir, cache_dir=carton_cache, device="cpu", diagnostics_period=0.2)
    client.bring_to("active")
    client.shake_hands()
    return node


def test_under_load_frames_are_answered_or_counted_and_memory_is_flat(node, client, frames):
    client.answer(client.send(*frames[0]), WAIT_S)
    before, cpu, begin = client.diagnosis(), node.cpu_seconds(), time.monotonic()
    client.received["poses"].clear()
    latencies, memory, sent, seen = [], [], 0, 0
    while (now := time.monotonic() - begin) < SECONDS:
        if sent < now * RATE_HZ:
            client.send(*frames[sent % len(frames)])
            sent += 1
        client.executor.spin_once(timeout_sec=max(0.0, sent / RATE_HZ - (time.monotonic() - begin)))
        for message in client.received["poses"][seen:]:
            latencies.append(time.time() - stamp_to_ns(message.header.stamp) * 1e-9)
            memory.append(node.resident_mib())
            seen += 1
    seconds = time.monotonic() - begin
    fraction = (node.cpu_seconds() - cpu) / seconds
    counts: dict[str, int] = {}

    def all_answered() -> bool:
        after = client.diagnosis()
        counts.update({key: int(after[key]) - int(before[key]) for key in COUNTED})
        begun = counts["frames matched"] + counts["images without detections"]
        return begun == len(client.received["poses"]) + counts["frames dropped, node busy"]

    # Every frame is answered, or counted as dropped.
    is_accounted_for = client.spin_until(all_answered, WAIT_S)
    answers = len(client.received["poses"])
    p50, p95 = np.percentile(latencies, [50, 95]) * 1e3
    print(
        f"{sent} frames of {OBJECTS} detections at {sent / seconds:.1f} Hz, {answers} answers, {counts}; "
        f"latency median {p50:.0f} ms, p95 {p95:.0f} ms; {fraction:.2f} CPU cores of {os.cpu_count()}; "
        f"MiB {memory[len(memory) // 3]:.0f} after a third, {memory[-1]:.0f} at the end"
    )
    assert is_accounted_for, counts
    assert memory[-1] < memory[len(memory) // 3] + GROWTH_MIB
    assert "Traceback" not in node.log.read_text()
