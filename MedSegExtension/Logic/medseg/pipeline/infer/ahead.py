"""Batches side by side: the next one is put together and run while what the network said of the last is taken in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ...monitor import Monitor
from .tensors import Array, FloatArray

T = TypeVar("T")

#: Bytes of a batch and its output up to which batches overlap: so much is held up to three times.
WORTH_BYTES = 128 << 20


def run_ahead(
    items: Sequence[T],
    size: int,
    gather: Callable[[Sequence[T]], FloatArray],
    call: Callable[[FloatArray], Array],
    at_once: int,
    monitor: Monitor,
) -> Iterator[tuple[Sequence[T], Array]]:
    """The items of each batch of ``size`` and what ``call`` gave for it, in order.

    One thread makes the batches, ``at_once`` threads call the network, and both go on while the caller works on what
    was yielded. One batch more than those under way is made. What ``call`` raises is raised for the first batch that
    was not yielded yet; later ones are given up.
    """
    waiting: deque[tuple[Sequence[T], Future[Array]]] = deque()
    begun = 0
    with ThreadPoolExecutor(1, "medseg-batches") as hands, ThreadPoolExecutor(at_once, "medseg-network") as network:

        def fill() -> None:
            nonlocal begun
            while begun < len(items) and len(waiting) <= at_once:
                chosen = items[begun : begun + size]
                batch = hands.submit(gather, chosen)
                waiting.append((chosen, network.submit(lambda made: call(made.result()), batch)))
                begun += len(chosen)

        try:
            fill()
            while waiting:
                chosen, future = waiting.popleft()
                output = future.result()
                del future
                monitor.checkpoint()
                fill()
                yield chosen, output
                del output
        except KeyboardInterrupt:
            monitor.cancel()  # ends what is under way, which leaving this block waits for
            raise
        finally:
            for _, future in waiting:
                future.cancel()
