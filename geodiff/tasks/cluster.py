"""Independent tasks on a Dask cluster that is already there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from geodiff.schema import GeodiffError

SCHEDULER_TIMEOUT_S = 10.0

WORKERS_TIMEOUT_S = 300.0
"""How long a cluster may take to start its first worker: queues of batch systems are slow."""


def run_on_cluster(
    address: str, task: Callable[..., Any], calls: Sequence[tuple[Any, ...]], *, tell: Callable[[int], None]
) -> None:
    """Call a task with each of some tuples of arguments, on the workers of a scheduler.

    Args:
        address: of the scheduler, such as ``tcp://host:8786``.
        task: a function of a module that the workers have.
        calls: arguments that can be pickled.
        tell: told how many calls have ended.

    Raises:
        GeodiffError: as the task; distributed is not installed, the scheduler cannot be reached, or has no workers.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise GeodiffError("--scheduler needs the package distributed: pip install 'geodiff[distributed]'") from None
    try:
        client = Client(address, timeout=SCHEDULER_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise GeodiffError(f"cannot reach the Dask scheduler at {address}: {error}") from None
    session = uuid.uuid4().hex
    with client:
        # Keys of this call: the cluster may still hold results of an earlier one, whose output is gone.
        futures = [client.submit(task, *call, key=f"{session}-{number}") for number, call in enumerate(calls)]
        try:  # after submitting: a cluster that adapts starts its workers only when there is work
            client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
        except TimeoutError:
            raise GeodiffError(
                f"the Dask scheduler at {address} has no worker after {WORKERS_TIMEOUT_S:.0f} s: start some"
            ) from None
        for number, future in enumerate(as_completed(futures), 1):
            future.result()
            tell(number)
