"""Independent tasks on threads, on processes or on a Dask cluster; where they run does not change a value."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any, Final

from geodiff.schema import UsageError
from geodiff.tasks.cluster import run_on_cluster

THREADS, PROCESSES = "threads", "processes"

_ONE_THREAD: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")

Task = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Pool:
    """Where tasks run.

    Attributes:
        workers: threads or processes.
        scheduler: ``threads``, ``processes``, or the address of a Dask scheduler; None: threads.
    """

    workers: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers {self.workers}: 1 or more")

    @property
    def light(self) -> Pool:
        """The same for tasks that spend their time in compiled code: processes would cost more than they save."""
        return replace(self, scheduler=THREADS) if self.scheduler == PROCESSES else self

    def run(self, task: Task, calls: Sequence[tuple[Any, ...]], *, tell: Callable[[int], None]) -> None:
        """Call a task with each of some tuples of arguments.

        A call that fails stops the rest; those that ended stay done.

        Args:
            task: a function of a module, and arguments that can be pickled.
            calls: arguments.
            tell: told how many calls have ended.

        Raises:
            GeodiffError: as the task; the scheduler cannot be reached or has no workers.
        """
        if self.scheduler not in (None, THREADS, PROCESSES):
            run_on_cluster(str(self.scheduler), task, calls, tell=tell)
        elif min(self.workers, len(calls)) <= 1 and self.scheduler != PROCESSES:
            for number, call in enumerate(calls, 1):
                task(*call)
                tell(number)
        elif calls:
            with self._executor(len(calls)) as pool:
                _collect(pool, [pool.submit(task, *call) for call in calls], tell)

    @contextmanager
    def _executor(self, calls: int) -> Iterator[Executor]:
        count = min(self.workers, calls)
        if self.scheduler != PROCESSES:
            with ThreadPoolExecutor(count) as pool:
                yield pool
            return
        # Forked children inherit the locks of polars' and torch's threads, and hang.
        context = multiprocessing.get_context("spawn")
        with _few_threads(), ProcessPoolExecutor(count, mp_context=context, initializer=_begin_process) as pool:
            yield pool


def _collect(pool: Executor, futures: Sequence[Future[Any]], tell: Callable[[int], None]) -> None:
    try:
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            tell(number)
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


@contextmanager
def _few_threads() -> Iterator[None]:
    """Children of this block compute on one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin_process() -> None:
    """Leave Ctrl-C to the parent, and end with it: a pool does not notice that its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: how sums are split among threads would change the last digit.

    A program that has not loaded torch is left without it.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    if torch is not None and before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch is not None and before > 1:
            torch.set_num_threads(before)
