"""One writer at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spectroxr.errors import ConflictError

__all__ = ["only_writer"]


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        A folder.

    Yields
    ------
    None
        While the lock is held.

    Raises
    ------
    ConflictError
        If another writer holds it, in this process or another.
    FileNotFoundError
        If the folder is not there any more.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"{path} is being saved by another writer; try again when it is done") from error
        try:
            if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
                raise FileNotFoundError(errno.ENOENT, "was removed by a writer that gave up", str(path))
            yield
        finally:
            # a process that was forked meanwhile has the descriptor too; closing ours would not release the lock
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
