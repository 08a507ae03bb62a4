"""Threads that share what there is to do; the first error stops what has not begun."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

__all__ = ["Work", "in_threads"]

T = TypeVar("T")
P = ParamSpec("P")


class Work:
    """Calls that are under way at once; when the block ends, all are done, or stopped by an error.

    Parameters
    ----------
    workers : int
        How many at most; with one, each call is made where it is started.

    Examples
    --------
    >>> with Work(4) as work:
    ...     squares = [work.start(pow, number, 2) for number in range(3)]
    ...     work.finish()
    >>> [square.result() for square in squares]
    [0, 1, 4]
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._started: list[Future[Any]] = []
        self._error: BaseException | None = None

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._error = self._error or error
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=error is not None)

    def start(self, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> Future[T]:
        """Call something in one of the threads.

        Raises
        ------
        Exception
            Of an earlier call, after which nothing is started.
        """
        if self._error is not None:
            raise self._error

        def called() -> T:
            if self._error is not None:
                raise self._error
            try:
                return call(*args, **options)
            except BaseException as error:
                self._error = self._error or error
                raise

        if self._pool is not None:
            future = self._pool.submit(called)
        else:
            future = Future()
            future.set_result(called())
        self._started.append(future)
        return future

    def finish(self) -> None:
        """Wait for all that was started.

        Raises
        ------
        Exception
            The first that a call raised.
        """
        for future in self._started:
            future.exception()
        self._started = []
        if self._error is not None:
            raise self._error


def in_threads(call: Callable[[Any], T], items: Iterable[Any], workers: int) -> list[T]:
    """Map over threads.

    Raises
    ------
    Exception
        The first that a call raised; nothing is started after it.
    """
    todo = list(items)
    with Work(min(workers, len(todo))) as work:
        started = [work.start(call, item) for item in todo]
        work.finish()
    return [future.result() for future in started]
