"""Processes of the application from outside: started, asked, stopped for a while, killed, and ended in order.

Each ``ask`` is answered once: by the process, or with None when it has died. A thread reads the answers, and calls
back in the order in which they come.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..rig import defects_in, environment, wait_until
from .application import HANDS

__all__ = ["Answer", "Process"]

START_WITHIN = 60.0  # seconds; on a busy machine an interpreter takes its time
CLOSE_WITHIN = 60.0  # seconds until what it has begun must have ended
PERMISSIONS = ("dac_override", "dac_read_search")  # what lets root read anything

Answer = dict[str, Any]
Told = Callable[[Answer | None], None]


class Process:
    """One process of the application, called ``label``; its log is in ``folder``."""

    def __init__(self, label: str, folder: str) -> None:
        self.label = label
        self.log = os.path.join(folder, f"{label.replace(' ', '-')}.log")
        self.frozen = False
        self._thawed = 0.0  # when it last went on
        self.left: list[str] = []  # what it had open when it had closed all
        self.launched = 0.0  # when, as time.monotonic tells it
        self.refusal = ""  # what it said when it did not start
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._started = threading.Event()
        self._waiting: dict[int, Told] = {}
        self._serial = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def runs(self) -> bool:
        """True from its launch until it is killed or told to close."""
        return self._process is not None

    @property
    def started(self) -> bool:
        """True from when it has a replicator."""
        return self._started.is_set()

    @property
    def has_failed(self) -> bool:
        """True where it was launched, and has ended without a replicator."""
        return self.runs and not self.started and not self._lives()

    @property
    def ready(self) -> bool:
        """True where it takes one more thing to do."""
        return self.runs and not self.frozen and self.waiting < HANDS

    @property
    def is_busy(self) -> bool:
        """True where it will take one more thing when it has ended another."""
        return self.runs and not self.frozen and self.waiting >= HANDS

    @property
    def waiting(self) -> int:
        """The number of asks that have no answer yet."""
        with self._lock:
            return len(self._waiting)

    def launch(self, settings: Mapping[str, Any], *, broken: str = "", ascii_only: bool = False) -> None:
        """Start it, and do not wait for it. It may read no more than the permissions say, also as root.

        ``ascii_only``: its locale is.
        """
        command = [
            sys.executable,
            "-m",
            "chaos.model.application",
            json.dumps({"settings": settings, "broken": broken}),
        ]
        names = environment()
        if ascii_only:
            names |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        if (setpriv := shutil.which("setpriv")) and os.geteuid() == 0:
            without = ",".join(f"-{each}" for each in PERMISSIONS)
            command = [setpriv, f"--bounding-set={without}", f"--inh-caps={without}", *command]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=os.path.dirname(self.log), env=names, stdin=-1, stdout=-1, stderr=log, text=True
            )
        self.frozen, self.left, self.refusal = False, [], ""
        self.launched = time.monotonic()
        self._started.clear()
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def await_start(self) -> bool:
        """Return when it has a replicator: True; or when it has ended instead: False."""
        started = self._started.is_set
        wait_until(lambda: started() or not self._lives(), START_WITHIN, f"{self.label} does not start")
        if not started():
            self.kill()
            with open(self.log, encoding="utf-8", errors="replace") as log:
                self.refusal = log.read().strip().splitlines()[-1]
            return False
        return True

    def ask(self, do: str, told: Told, **what: Any) -> None:
        """Have it do something; ``told`` is called with the answer, by a thread of ours."""
        number = next(self._serial)
        with self._lock:
            self._waiting[number] = told
        try:
            assert self._process is not None and self._process.stdin is not None
            self._process.stdin.write(json.dumps({"id": number, "do": do, **what}) + "\n")
            self._process.stdin.flush()
        except OSError:  # it is dead, and its reader may have gone home
            with self._lock:
                untold = self._waiting.pop(number, None)
            if untold is not None:
                untold(None)

    def answer_to(self, do: str, seconds: float, **what: Any) -> Answer | None:
        """Have it do something, and return the answer; None where it dies, or takes longer."""
        answers: list[Answer | None] = []
        ended = threading.Event()

        def told(answer: Answer | None) -> None:
            answers.append(answer)
            ended.set()

        self.ask(do, told, **what)
        return answers[0] if ended.wait(seconds) else None

    def freeze(self) -> None:
        if self._process is not None:
            self.frozen = True
            self._process.send_signal(signal.SIGSTOP)

    def was_frozen(self, since: float) -> bool:
        """True where it was stopped at some time since then."""
        return self.frozen or self._thawed >= since

    def thaw(self) -> None:
        self.frozen, self._thawed = False, time.monotonic()
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9; who waits for an answer is told that it is dead, before this returns."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._join()

    def close(self) -> str:
        """End it in order; return what was wrong with that, "" where nothing."""
        process, self._process = self._process, None
        if process is None:
            return ""
        self.frozen = False
        process.send_signal(signal.SIGCONT)
        try:
            self._say_close(process)
            status = process.wait(CLOSE_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._join()
            return f"{self.label} does not end within {CLOSE_WITHIN:.0f} s"
        self._join()
        if self.left:
            return f"{self.label} has left open: {', '.join(self.left)}"
        return f"{self.label} ended with {status}" if status else ""

    def defects(self) -> list[str]:
        """Return what its log tells of that nobody foresaw."""
        return [f"{self.label}: {defect}" for defect in defects_in(self.log)] if os.path.exists(self.log) else []

    def _say_close(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead already
            process.stdin.write(json.dumps({"do": "close"}) + "\n")
            process.stdin.close()

    def _lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _join(self) -> None:
        if self._reader is not None:
            self._reader.join(CLOSE_WITHIN)

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Hand on the answers; when there is no more to come, tell who still waits."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                answer = json.loads(line)
                if "closed" in answer:
                    self.left = answer["closed"]
                    continue
                if not answer["id"]:
                    self._started.set()
                    continue
                with self._lock:
                    told = self._waiting.pop(answer["id"])
                told(answer)
        process.wait()
        with self._lock:
            lost, self._waiting = list(self._waiting.values()), {}
        for told in lost:
            told(None)
