"""Saving and loading a gigabyte, against numpy and zarr-python; each repetition in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from figures import Effort, Figure, duration, volume
from measure import Ratio, Times, claim, peak_resident

BANDS = 700


def spectra(rows: int) -> np.ndarray[Any, Any]:
    """Return smooth spectra, mixtures of a few bands, with the noise of an instrument."""
    rng = np.random.default_rng(0)
    axis = np.linspace(0, 1, BANDS)
    centres, widths = rng.random((24, 1)), 0.02 + 0.2 * rng.random((24, 1))
    shapes = np.exp(-(((axis - centres) / widths) ** 2)).astype(np.float32)
    out = np.empty((rows, BANDS), np.float32)
    for start in range(0, rows, 10_000):
        part = out[start : start + 10_000]
        part[:] = rng.random((len(part), 24), dtype=np.float32) @ shapes / 12
        part += rng.standard_normal(part.shape, dtype=np.float32) * 1e-4
    return out


def _flush(path: Path) -> None:
    """Put a file, or all files of a folder, on the disk, as `save` does."""
    for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(one, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _zarr(folder: Path, x: Any, chunk: tuple[int, int], codec: str) -> None:
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    options: dict[str, Any] = {}
    if codec == "zstd":
        blosc = BloscCodec(typesize=4, cname="zstd", clevel=LEVEL, shuffle="shuffle", blocksize=1 << 18)
        options = {"compressors": [blosc, Crc32cCodec()]}
    array = zarr.create_array(folder, shape=x.shape, chunks=chunk, dtype="f4", **options)
    array[:] = x
    _flush(folder)


def _dataset(x: Any) -> Any:
    from spectroxr import SpectroDataset

    ds = SpectroDataset()
    ds.add_features({"nir": x}, copy=False)
    return ds


def _np_save(folder: Path, x: Any) -> None:
    folder.mkdir()
    np.save(folder / "x.npy", x)
    _flush(folder)


def _total(path: Path, kind: str) -> float:
    """Read everything once."""
    from spectroxr import SpectroDataset

    if kind == "npy":
        array = np.load(path / "x.npy", mmap_mode="r")
    else:
        (array,) = SpectroDataset.load(path).x()
    return float(array.sum(dtype=np.float64))


def _read(path: Path, kind: str) -> Any:
    if kind == "zarr":
        import zarr

        return zarr.open_array(path, mode="r")[:]
    from spectroxr import SpectroDataset

    return SpectroDataset.load(path).x()[0]


def _worker(job: str, folder: str, rows: int) -> dict[str, float]:
    """Do one job of a repetition and return what it took."""
    from spectroxr import SpectroDataset, chunks

    here = Path(folder)
    saves: dict[str, Callable[[Path, Any], Any]] = {
        "save None": lambda path, x: _dataset(x).save(path, compression=None),
        "save zstd": lambda path, x: _dataset(x).save(path),
        "save lz4": lambda path, x: _dataset(x).save(path, compression="lz4"),
        "np.save": _np_save,
        "zarr default": lambda path, x: _zarr(path, x, (CHUNK, BANDS), "default"),
        "zarr zstd": lambda path, x: _zarr(path, x, (CHUNK, BANDS), "zstd"),
    }
    assert chunks.CHUNK_BYTES // (4 * BANDS) == CHUNK
    assert chunks.LEVELS["zstd"] == LEVEL
    if job in saves:
        x = np.load(here / "x.npy")
        saves[job](here / "warm", x[:2000])  # what is imported late
        shutil.rmtree(here / "warm")
        path = here / job.replace(" ", "-")
        shutil.rmtree(path, ignore_errors=True)
        os.sync()
        start = perf_counter()
        extra = peak_resident(lambda: saves[job](path, x))
        return {"seconds": perf_counter() - start, "extra": extra, "size": _size(path)}
    what, name = job.split(" ", 1)
    path = here / name.replace(" ", "-")
    tiny = here / "tiny"
    if not tiny.exists():
        _dataset(np.ones((2, BANDS), np.float32)).save(tiny)
    SpectroDataset.load(tiny).x()
    start = perf_counter()
    if what == "open":
        ds = SpectroDataset.load(path)
        spent = perf_counter() - start
        return {"seconds": spent, "samples": len(ds)}
    if what == "pass":
        _total(path, "npy" if name == "np.save" else "store")
    else:
        _read(path, "zarr" if name.startswith("zarr") else "store")
    return {"seconds": perf_counter() - start}


#: The chunks and the level that spectroxr chooses for these spectra; `_worker` checks that it does.
CHUNK, LEVEL = 748, 1


def storing(effort: Effort) -> list[Figure]:
    """Save and load a gigabyte, in turns with numpy and zarr-python."""
    rows = 350_000 if not effort.quick else 35_000
    claim(2e9)
    saves = ["np.save", "save None", "zarr default", "zarr zstd", "save zstd", "save lz4"]
    reads = ["open save None", "open save zstd", "pass np.save", "pass save None"]
    reads += ["read zarr zstd", "read save zstd", "read zarr default", "read save lz4"]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", spectra(rows))
        for turn in range(effort.times(5, 1)):
            shift = turn % len(saves)
            shift_reads = turn % len(reads)
            for job in [*saves[shift:], *saves[:shift], *reads[shift_reads:], *reads[:shift_reads]]:
                command = [sys.executable, __file__, job, folder, str(rows)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found.setdefault(job, []).append(json.loads(done.stdout))
    times = {job: Times(tuple(one["seconds"] for one in runs)) for job, runs in found.items()}
    size = {job: found[job][0]["size"] for job in saves}
    extra = {job: max(one["extra"] for one in found[job]) for job in saves}
    gigabytes = rows * BANDS * 4 / 1e9

    def ratio(what: str, target: str, one: str, other: str, met: Callable[[float], bool] | None) -> Figure:
        value = Ratio.of(times[one], times[other])
        said = f"{value}, {duration(times[one].median)} against {duration(times[other].median)}"
        return Figure("store", what, target, said, None if met is None else met(value.value))

    figures = [
        ratio(
            f"uncompressed save of {gigabytes:.2f} GB",
            "<= 1.5x np.save, fsync in both",
            "save None",
            "np.save",
            lambda v: v <= 1.5,
        ),
        Figure(
            "store",
            "open by map",
            "< 20 ms",
            duration(times["open save None"].median),
            times["open save None"].median < 0.02,
        ),
        Figure(
            "store",
            "open compressed, lazily",
            "< 100 ms",
            duration(times["open save zstd"].median),
            times["open save zstd"].median < 0.1,
        ),
        ratio(
            "first full pass over the map",
            "<= 1.1x np.load(mmap_mode='r')",
            "pass save None",
            "pass np.save",
            lambda v: v <= 1.1,
        ),
    ]
    for name in ("zstd", "lz4"):
        for other in ("zarr default", "zarr zstd"):
            target = "<= 0.33x and not larger" if other == "zarr default" else "-"
            one = ratio(
                f"save {name}, against {other} of zarr-python, same chunks", target, f"save {name}", other, None
            )
            share = size[f"save {name}"] / size[other]
            met = times[f"save {name}"].median <= times[other].median / 3 and share <= 1
            said = f"{one.measured}; {share:.2f}x the size"
            figures.append(Figure("store", one.what, target, said, met if other == "zarr default" else None))
    figures += [
        ratio("full read zstd, against zarr-python", "<= 0.5x", "read save zstd", "read zarr zstd", lambda v: v <= 0.5),
        ratio(
            "full read lz4, against zarr-python's default",
            "<= 0.5x",
            "read save lz4",
            "read zarr default",
            lambda v: v <= 0.5,
        ),
    ]
    for name in ("save None", "save zstd", "save lz4"):
        figures.append(
            Figure(
                "store", f"{name}: resident peak above the array", "< 256 MB", volume(extra[name]), extra[name] < 256e6
            )
        )
    return figures


if __name__ == "__main__":
    print(json.dumps(_worker(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
