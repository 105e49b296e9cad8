"""The programs that the demo starts: on a leash, each with its log, watched and ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from newsletter.demo import services

LOOK_EVERY = 0.1  # seconds
GRACE = 25.0  # seconds for a worker to note what it has handed over; the transport and the store take far less
LAST_LINES = 15


class Told(Exception):
    """Somebody told the demo to stop."""


class Ended(Exception):
    """A program ended that should not have; the message says which, how, and what it said last."""


@dataclass(frozen=True)
class Program:
    """A child: `name` as one would say it (“web server”), `log` the file of its output, if it has one."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None


@dataclass
class Programs:
    """All children of one demo, run in `environment` from `folder`, with their output in `logs`.

    `stopping` is looked at in every wait: once it is set the wait raises Told. A lasting program that ends during any
    wait raises Ended.
    """

    environment: Mapping[str, str]
    folder: Path
    logs: Path
    stopping: threading.Event = field(default_factory=threading.Event)
    _watched: list[Program] = field(default_factory=list)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *command: str) -> Program:
        """Start a program that lasts as long as the demo."""
        log = self.logs / f"{name.replace(' ', '-')}.log"
        with log.open("wb") as output:
            program = Program(name, self._open(command, output.fileno(), output.fileno()), log)
        self._watched.append(program)
        return program

    def watch(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Watch over a program that somebody else started and will end."""
        self._watched.append(Program(name, process, log))

    def run(self, name: str, *command: str) -> str:
        """Run a program to its end; what it wrote to stdout. Raises Ended where its exit status is not 0."""
        log = self.logs / f"{name.replace(' ', '-')}.log"
        answer = log.with_suffix(".answer")
        with log.open("wb") as errors, answer.open("wb") as output:
            program = Program(name, self._open(command, output.fileno(), errors.fileno()), log)
        self._finish(program)
        return answer.read_text(encoding="utf-8")

    def show(self, name: str, *command: str) -> None:
        """Run a program to its end on our own terminal. Raises Ended where its exit status is not 0."""
        self._finish(Program(name, self._open(command, None, None), None))

    def wait_until(self, happened: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Wait until `happened()`. Raises Ended with the sentence `otherwise` when it has not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                raise Ended(otherwise)
            self._look()

    def wait(self) -> None:
        """Wait for ever: until told to stop, or until a lasting program ends."""
        self.wait_until(lambda: False, float("inf"), "")

    def end(self) -> None:
        """End all that was started here: asked first (SIGTERM), then made to, when GRACE is over or we are told again.

        What a program itself started and left behind goes with it.
        """
        self.stopping.clear()
        for process in self._started:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in self._started):
            if self.stopping.wait(LOOK_EVERY) or time.monotonic() > deadline:
                break
        for process in self._started:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left in its session
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _open(self, command: Sequence[str], output: int | None, errors: int | None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*services.leash(), *command],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in the terminal reaches us alone: we end the others in good order
        )
        self._started.append(process)
        return process

    def _finish(self, program: Program) -> None:
        while program.process.poll() is None:
            self._look()
        if program.process.returncode != 0:
            raise Ended(_obituary(program))

    def _look(self) -> None:
        for program in self._watched:
            if program.process.poll() is not None:
                raise Ended(_obituary(program))
        if self.stopping.wait(LOOK_EVERY):
            raise Told


def _obituary(program: Program) -> str:
    status = program.process.returncode
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    sentence = f"The {program.name} {how}."
    if program.log is None:
        return sentence
    said = program.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"{sentence} Its last lines ({program.log}):", *(f"    {line}" for line in said)])
