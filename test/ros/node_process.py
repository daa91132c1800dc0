"""Start `vpog_node` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STARTUP_S = 180.0
END_S = 30.0


class NodeProcess:
    """Runs a node as a process; its output goes to `log`.

    Args:
        name: fully qualified; nodes of the same name would be taken for one.
        program: what Python runs.
    """

    def __init__(
        self,
        log: Path,
        name: str = "/vpog_node",
        program: tuple[str, ...] = ("-m", "vpog_ros.vpog_node"),
        **parameters,
    ) -> None:
        namespace, _, node = name.rpartition("/")
        command = [sys.executable, *program, "--ros-args"]
        command += ["-r", f"__node:={node}", "-r", f"__ns:={namespace or '/'}"]
        for key, value in parameters.items():
            command += ["-p", f"{key}:={value}"]
        self.log = log
        # This source is run, as `-m` does, and not what was installed.
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path}
            )

    def wait_for(self, words: str) -> None:
        """Wait until the log says something."""
        deadline = time.monotonic() + STARTUP_S
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, f"the log does not say '{words}'"
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def wait_for_handler(self, number: int) -> None:
        """Wait until the process handles a signal, which it does from its first line on."""
        deadline = time.monotonic() + STARTUP_S
        while True:
            (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", (self._proc / "status").read_text(), re.MULTILINE)
            if int(caught, 16) >> (number - 1) & 1:
                return
            assert time.monotonic() < deadline, f"signal {number} is not handled"
            time.sleep(0.01)

    def stop(self, how: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def seconds_to_end(self, how: int = signal.SIGINT) -> float:
        """Send a signal to a node that has nothing to complain of; returns the seconds until its end."""
        begin = time.monotonic()
        assert self.stop(how) == 0
        seconds = time.monotonic() - begin
        assert "Traceback" not in self.log.read_text()
        return seconds

    def resident_mib(self) -> float:
        """Return memory of the process."""
        pages = int((self._proc / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """Return user and system time of the process so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads_and_files(self) -> tuple[int, int]:
        """Return threads and open files of the process."""
        return len(list((self._proc / "task").iterdir())), len(list((self._proc / "fd").iterdir()))

    @property
    def _proc(self) -> Path:
        return Path("/proc") / str(self.process.pid)
