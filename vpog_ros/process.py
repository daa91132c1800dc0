"""Run a node as a process, survive exceptions of its callbacks, and end it soon after a signal."""

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
from vpog_ros.errors import error_log

STEP_S = 0.7
"""Seconds that running work may take to its next cancellation point."""
END_S = 1.3
"""Seconds from Ctrl-C until the process is ended, even if threads still run."""
WRITE_S = 0.3
"""Further seconds to finish writing a file."""
THREADS = 5
"""Threads of the executor; ~/estimate_once and ~/add_object may each block one."""
SWITCH_S = 5e-4
"""Seconds after which a thread that waits for the interpreter's lock gets it. By Python's 5 ms the executor,
which wakes for every message, holds up the estimator, which asks for the lock after each operation."""
SPIN_S = 0.5
"""Seconds after which the executor looks at the latest whether it is to end."""


def run(make_node: Callable, args: list[str] | None = None) -> int:
    """Run a node until a signal arrives, then end the process; return a status if it cannot start.

    Args:
        make_node: makes the node, which has `start()`, called in a thread of its own where the parameter
            `autostart` is true, and `request_stop()`, after which what it does ends at its next step.
        args: for rclpy.
    """
    shutdown_event = threading.Event()

    def end(*_) -> None:
        if not shutdown_event.is_set():
            shutdown_event.set()
            threading.Thread(target=force_exit, name="last resort", daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    # Let the estimator go on while the executor handles messages.
    sys.setswitchinterval(SWITCH_S)
    # rclpy's own handlers would destroy the context while a frame is processed.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        serve(make_node(), shutdown_event)
    except ParameterException as error:
        print(f"vpog_node: {error.args[0]}", file=sys.stderr)
        rclpy.shutdown()
        return 2
    rclpy.shutdown()
    return exit_process()


def serve(node, shutdown_event: threading.Event) -> None:
    """Spin a node until the event is set, then destroy it, so that no DDS participant calls it any more."""
    executor = MultiThreadedExecutor(num_threads=THREADS)
    executor.add_node(node)
    spinner = threading.Thread(target=spin, args=(executor, shutdown_event), name="spinner", daemon=True)
    starter = threading.Thread(target=node.start, name="autostart", daemon=True)
    spinner.start()
    if node.settings.autostart:
        starter.start()
    shutdown_event.wait()
    node.request_stop()
    if starter.ident is not None:
        starter.join(STEP_S)
    executor.shutdown(timeout_sec=0.0 if starter.is_alive() else STEP_S)
    node.destroy_node()


def spin(executor: MultiThreadedExecutor, shutdown_event: threading.Event) -> None:
    """Spin until the event is set; exceptions of callbacks are logged, and spinning goes on."""
    while not shutdown_event.is_set():
        try:
            executor.spin_once(timeout_sec=SPIN_S)
        except InvalidHandle:
            # A transition destroyed an entity that the executor was about to wait for: ros2/rclpy issue 1142.
            continue
        except RuntimeError as error:
            # The executor was shut down while it was about to run a callback.
            if not shutdown_event.is_set():
                get_logger("vpog_node").error(error_log(error))
        except Exception as error:
            get_logger("vpog_node").error(error_log(error))


def force_exit() -> None:
    """End the process after `END_S`, even if threads still run."""
    time.sleep(END_S)
    exit_process()


def exit_process() -> NoReturn:
    """Exit without the interpreter's shutdown, which takes seconds with torch loaded on a busy CPU."""
    wait_for_writers(WRITE_S)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
