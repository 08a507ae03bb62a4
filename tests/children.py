"""Processes that tests start: forked from one that has imported everything, so that each is cheap."""

import contextlib
import multiprocessing

#: How long anything is waited for.
SECONDS = 60
PRELOAD = ["pytest", "spectroxr.storage", "spectroxr.io", "sklearn.model_selection", "zarr", "numcodecs"]


def forkserver():
    """Return what starts such processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


@contextlib.contextmanager
def child(context, work, *args):
    """Run ``work(connection, *args)`` in a process; yields the process and the connection to it."""
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, *args))
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join(SECONDS)
        process.close()
        here.close()


def received(connection):
    assert connection.poll(SECONDS)
    return connection.recv()
