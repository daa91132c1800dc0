"""A node as a process: spun whatever its callbacks raise, and ended soon after it is told to end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import MultiThreadedExecutor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from vpog_core.utils.atomic_file import wait_for_writers
from vpog_ros.worker import describe

STEP_S = 0.7
"""How long what is under way may take to its next step, where it ends."""
END_S = 1.3
"""From Ctrl-C until the process ends whatever its threads do."""
WRITE_S = 0.3
"""Then, how long a file that is being written may take to be whole."""
THREADS = 5
"""Of the executor; ~/estimate_once and ~/add_object may hold one each."""
SPIN_S = 0.5
"""How often the executor looks whether the process is to end."""


def run(make_node: Callable, args: list[str] | None = None) -> int:
    """Run a node until the process is told to end, and end the process; returns a status if it cannot start.

    Args:
        make_node: makes the node, which has `start()`, called in a thread of its own where the parameter
            `autostart` is true, and `request_stop()`, after which what it does ends at its next step.
        args: for rclpy.
    """
    told_to_end = threading.Event()

    def end(*_) -> None:
        if not told_to_end.is_set():
            told_to_end.set()
            threading.Thread(target=give_up, name="last resort", daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    # rclpy's own handlers would take the context down under the frame in work.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        serve(make_node(), told_to_end)
    except ParameterException as error:
        print(f"vpog_node: {error.args[0]}", file=sys.stderr)
        rclpy.shutdown()
        return 2
    rclpy.shutdown()
    return leave()


def serve(node, told_to_end: threading.Event) -> None:
    """Spin a node until the event is set, then destroy it, so that nobody on DDS goes on calling it."""
    executor = MultiThreadedExecutor(num_threads=THREADS)
    executor.add_node(node)
    spinner = threading.Thread(target=spin, args=(executor, told_to_end), name="spinner", daemon=True)
    starter = threading.Thread(target=node.start, name="autostart", daemon=True)
    spinner.start()
    if node.settings.autostart:
        starter.start()
    told_to_end.wait()
    node.request_stop()
    if starter.ident is not None:
        starter.join(STEP_S)
    executor.shutdown(timeout_sec=0.0 if starter.is_alive() else STEP_S)
    node.destroy_node()


def spin(executor: MultiThreadedExecutor, told_to_end: threading.Event) -> None:
    """Spin, whatever callbacks raise: a node that complains is better than one that no longer listens."""
    while not told_to_end.is_set():
        try:
            executor.spin_once(timeout_sec=SPIN_S)
        except InvalidHandle:
            # A transition destroyed what the executor was about to wait for: ros2/rclpy issue 1142.
            continue
        except Exception as error:
            get_logger("vpog_node").error(describe(error))


def give_up() -> None:
    """End the process, whatever its threads do, once it had its time to end by itself."""
    time.sleep(END_S)
    leave()


def leave() -> NoReturn:
    """End the process here: with torch loaded, the interpreter's own end takes seconds on a busy CPU."""
    wait_for_writers(WRITE_S)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
