"""Works that begin at the same moment, in threads or in processes, and a server that answers meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import uvicorn

ROOT = Path(__file__).parents[1]
T = TypeVar("T")


def together(*works: Callable[[], T]) -> list[T]:
    """Do the works at the same moment, each in a thread; what they gave, in their order. What one raises is raised."""
    gate = threading.Barrier(len(works))

    def begin(work: Callable[[], T]) -> T:
        gate.wait(timeout=30)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(timeout=120) for future in [pool.submit(begin, work) for work in works]]


class Clerk:
    """Does one thing after the other in a thread of its own, as the others ask for it, until all of them have gone."""

    def __init__(self, act: Callable[[str], object], askers: int) -> None:
        """`act` is what it does about a name, for so many who may ask."""
        self._act, self._askers = act, askers
        self._asked: SimpleQueue[tuple[str, threading.Event] | None] = SimpleQueue()

    def __call__(self) -> None:
        """Work until the last one has gone."""
        while self._askers:
            if (asked := self._asked.get(timeout=60)) is None:
                self._askers -= 1
                continue
            self._act(asked[0])
            asked[1].set()

    def ask(self, name: str, *, wait: bool) -> None:
        """Ask for it, and wait until it is done or go on meanwhile."""
        done = threading.Event()
        self._asked.put((name, done))
        assert not wait or done.wait(timeout=60)

    def goodbye(self) -> None:
        """One of those who may ask asks no more."""
        self._asked.put(None)


def processes_together(program: str, arguments: Sequence[Sequence[str]]) -> list[str]:
    """Run a program in a process for each of the arguments; what each said after the start.

    The program says ready in a line, and then waits for a line before it begins.
    """
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [subprocess.Popen([sys.executable, "-c", program, *each], **pipes) for each in arguments]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return said


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An app that answers on a port of its own; gives its base address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive(), "the app did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
