"""Requests and throughput against a bucket that answers each request 30 ms late: moto on this machine."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from figures import Effort, Figure, spread, volume
from measure import Call, Ratio, claim, in_turns

from spectroxr import SpectroDataset

SERVERS = Path(__file__).resolve().parent.parent / "tests" / "cloud.py"
DELAY = 0.03
ROWS, BANDS = 29_200, 1000
SOURCES = ("nir", "mir", "raman")


class Bucket:
    """The servers of the tests in a process of their own, and what they have seen since `reset`."""

    def __init__(self, about: dict[str, str]) -> None:
        self.url = about["url"]
        self.options = {
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": "me",
            "secret_access_key": "x",
        }

    def reset(self, delay: float = DELAY) -> None:
        self._ask("POST", {"delay": delay})

    def seen(self) -> dict[str, Any]:
        return self._ask("GET")

    def _ask(self, method: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/", data, method=method)) as answer:
            return dict(json.load(answer))

    def store(self) -> Any:
        from obstore.store import S3Store

        return S3Store("bucket", config=self.options, client_options={"allow_http": True, "timeout": "60s"})

    def clear(self) -> None:
        """Remove all objects, without the delay."""
        import obstore

        self.reset(0.0)
        for batch in obstore.list(self.store()):
            obstore.delete(self.store(), [about["path"] for about in batch])
        self.reset()


@contextlib.contextmanager
def served() -> Iterator[Bucket]:
    command = [sys.executable, str(SERVERS), str(DELAY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
        assert servers.stdin is not None
        assert servers.stdout is not None
        try:
            yield Bucket(json.loads(servers.stdout.readline()))
        finally:
            servers.stdin.close()


def dataset(rows: int) -> SpectroDataset:
    """Three sources of noise, which does not compress much: nearly all bytes travel."""
    ds = SpectroDataset()
    rng = np.random.default_rng(1)
    ds.add_features({name: rng.random((rows, BANDS), dtype=np.float32) for name in SOURCES}, copy=False)
    return ds


def cloud(effort: Effort) -> list[Figure]:
    """Opening, a slice, and saving about 350 MB."""
    rows = effort.times(ROWS, 3000)
    ds = dataset(rows)
    claim(1e9)
    with served() as bucket:
        figures = _reading(bucket, ds)
        for compression in (None, "zstd"):
            figures.append(_saving(bucket, ds, compression, effort.times(5, 2)))
    return figures


def _reading(bucket: Bucket, ds: SpectroDataset) -> list[Figure]:
    figures = []
    for compression in ("zstd", None):
        url = f"s3://bucket/open-{compression}"
        bucket.reset(0.0)
        ds.save(url, compression=compression, storage_options=bucket.options)
        bucket.reset()
        found = SpectroDataset.load(url, storage_options=bucket.options)
        seen = bucket.seen()
        count, trips = len(seen["requests"]), seen["trips"]
        figures.append(
            Figure(
                "cloud",
                f"load of three sources, {compression or 'uncompressed'}",
                "<= 12 requests, <= 8 round trips",
                f"{count} requests, {trips} round trips",
                count <= 12 and trips <= 8,
                seen,
            )
        )
        most = 0
        for first in range(0, 2000, 230):
            bucket.reset()
            found.x({"sample": list(range(first, first + 100)), "source": "nir"})
            most = max(most, len(bucket.seen()["requests"]))
        figures.append(
            Figure(
                "cloud",
                f"100 rows of one source, {compression or 'uncompressed'}",
                "<= 2 requests",
                f"{most} at most",
                most <= 2,
            )
        )
    bucket.clear()
    return figures


def _saving(bucket: Bucket, ds: SpectroDataset, compression: str | None, repeats: int) -> Figure:
    """Save, against putting the same bytes: the same objects, as many at once, by obstore alone."""
    import obstore

    url, store = "s3://bucket/saved", bucket.store()
    ds.save(url, compression=compression, storage_options=bucket.options)
    objects = {}
    bucket.reset(0.0)
    for batch in obstore.list(store, "saved"):
        for about in batch:
            objects["raw" + about["path"][5:]] = bytes(obstore.get(store, about["path"]).bytes())
    size = sum(map(len, objects.values()))
    large = [key for key, data in objects.items() if len(data) > 16 << 20]

    def put(key: str) -> None:
        obstore.put(store, key, io.BytesIO(objects[key]) if key in large else objects[key])

    def raw(_: Any) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(put, objects))

    def save(_: Any) -> None:
        ds.save(url, compression=compression, overwrite=True, storage_options=bucket.options)

    times = in_turns({"save": Call(save, bucket.clear), "raw": Call(raw, bucket.clear)}, repeats)
    bucket.clear()
    ratio = Ratio.of(times["raw"], times["save"])
    rate = size / times["save"].median
    return Figure(
        "cloud",
        f"saving {volume(size)}, {compression or 'uncompressed'}",
        ">= 90% of the throughput of obstore puts",
        f"{ratio.value:.0%} (quietest {ratio.quiet:.0%}), {volume(rate)}/s, {spread(times['save'])}",
        ratio.value >= 0.9,
        {"seconds": {name: one.seconds for name, one in times.items()}, "bytes": size, "objects": len(objects)},
    )
