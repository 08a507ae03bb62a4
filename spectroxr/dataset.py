"""The dataset: one object that keeps features, targets, metadata, folds and predictions aligned."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import polars as pl

from spectroxr import averaging, quality, sampling
from spectroxr.applying import apply
from spectroxr.encoding import encode_targets
from spectroxr.features import FeatureBlock
from spectroxr.folds import FoldsManager
from spectroxr.log import enabled, log, quiet
from spectroxr.metadata import MetadataBlock
from spectroxr.predictions import PredictionBlock
from spectroxr.replaying import replay
from spectroxr.summary import describe
from spectroxr.targets import TargetBlock
from spectroxr.testset import fit_predict
from spectroxr.transaction import all_or_nothing, numbered
from spectroxr.validation import cross_validate

if TYPE_CHECKING:
    import xarray as xr

    from spectroxr.place import Place
    from spectroxr.snapshot import Snapshot
    from spectroxr.zarrstore import Saved

__all__ = ["SpectroDataset"]

P = ParamSpec("P")
B = TypeVar("B")
R = TypeVar("R")


def _of(block: str, method: Callable[Concatenate[B, P], R]) -> Callable[Concatenate[SpectroDataset, P], R]:
    """Return a method of the dataset that calls the one of a block, with its signature and docstring."""

    @functools.wraps(method)
    def call(self: SpectroDataset, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(getattr(self, block), *args, **kwargs)

    call.__qualname__ = f"SpectroDataset.{method.__name__}"
    return call


class SpectroDataset:
    """Spectra of several sources, their variants, targets, metadata, folds and predictions, aligned by sample.

    A **filter** is None, a dict or a Polars expression. The keys of a dict are columns of the index (``row, sample,
    origin, partition, group, branch, processing``), ``source``, ``wavelength``, and columns of the metadata and
    targets; its values are one value, a list or array of values, a slice as an inclusive range of labels, None for
    null, or an expression on that column. ``x(f)``, ``y(f)``, ``meta(f)`` and the index that comes with them agree
    line by line, samples in ascending order of their ids.

    Attributes
    ----------
    features : FeatureBlock
    targets : TargetBlock
    metadata : MetadataBlock
    folds : FoldsManager
    predictions : PredictionBlock
    lineage : Lineage

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> ds = SpectroDataset()
    >>> ds.add_features({"nir": np.random.rand(5, 100).astype("float32")},
    ...                 wavelength=np.linspace(1000, 1990, 100), units="nm",
    ...                 partition=["train", "train", "train", "test", "test"])
    >>> ds.add_targets(pl.DataFrame({"protein": [10.0, 12.0, 13.0, 11.0, 9.5]}))
    >>> (spectra,) = ds.x({"partition": "train", "wavelength": slice(1100, 1300)})
    >>> spectra.shape
    (3, 21)
    >>> ds.y({"partition": "train"}, target="protein")
    array([10., 12., 13.])
    """

    def __init__(self) -> None:
        side: dict[str, Any] = {}
        self.features = FeatureBlock(side)
        self.targets = TargetBlock(self.features.index)
        self.metadata = MetadataBlock(self.features.index)
        self.features.resolver.side.update(metadata=self.metadata, targets=self.targets)
        self.predictions = PredictionBlock(self.features.index)
        for block in (self.targets, self.metadata, self.predictions):
            block.resolver = self.features.resolver
        self.folds = FoldsManager(self.features, self.targets)
        self.lineage = self.features.cells.lineage
        #: By store, the version that this dataset was loaded from or saved as last.
        self.origins: dict[Place, Saved] = {}

    def __len__(self) -> int:
        """Return the number of samples, augmented ones included."""
        return self.features.n_samples()

    def __repr__(self) -> str:
        return describe(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and deep-copy by what would be stored: the copy shares nothing with this dataset."""
        from spectroxr.io import snapshot
        from spectroxr.source import LazyBlock

        blocks = [block for source in self.features.cells.sources.values() for block in source.blocks]
        chunks = next((one.chunks for one in blocks if isinstance(one, LazyBlock) and one.chunks is not None), None)
        return _rebuilt, (snapshot(self), [*self.origins.values()], chunks)

    def __copy__(self) -> SpectroDataset:
        """Return a dataset that shares nothing with this one, as `copy.deepcopy` does."""
        return copy.deepcopy(self)

    def __contains__(self, source: object) -> bool:
        """Tell whether there is a source of that name."""
        return source in self.features.cells.sources

    #: A dataset has samples, sources and processings to go through; none is what ``for _ in ds`` would mean.
    __iter__: None = None

    def __getitem__(self, source: str) -> xr.DataArray:
        """Return all samples of a source as a DataArray; see `sel`."""
        return self.features.sel(None, source=source)

    @property
    def tree(self) -> xr.DataTree:
        """All samples as an `xarray.DataTree`: one child per source, its variable named ``spectra``."""
        return self.features.tree

    def add_data(
        self,
        features: Any,
        targets: pl.DataFrame | None = None,
        metadata: pl.DataFrame | None = None,
        **options: Any,
    ) -> None:
        """Add features, targets and metadata of the same new samples: all of them, or nothing if one does not fit.

        Parameters
        ----------
        features : list or dict of array_like or xarray.DataArray
            As in `add_features`.
        targets, metadata : polars.DataFrame, optional
            One line per new sample, or with a column ``sample`` that names them by their ids.
        **options
            Further arguments of `add_features`, such as ``wavelength``, ``units``, ``partition``.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            As the three methods; the dataset is then as it was.
        """
        start = len(self)
        with all_or_nothing(self), quiet():
            self.add_features(features, **options)
            if targets is not None:
                self.targets.add_targets(numbered(targets, start, len(self)))
            if metadata is not None:
                self.metadata.add_meta(numbered(metadata, start, len(self)))
        if enabled():
            log(f"add_data: {len(self) - start} samples")

    add_features = _of("features", FeatureBlock.add_features)
    add_source = _of("features", FeatureBlock.add_source)
    x = _of("features", FeatureBlock.x)
    get_indexed_features = _of("features", FeatureBlock.get_indexed_features)
    x_exists = _of("features", FeatureBlock.x_exists)
    augment_samples_x = _of("features", FeatureBlock.augment_samples_x)
    augment_features_x = _of("features", FeatureBlock.augment_features_x)
    update_indexes = _of("features", FeatureBlock.update_indexes)
    merge = _of("features", FeatureBlock.merge)
    split = _of("features", FeatureBlock.split)
    pack = _of("features", FeatureBlock.pack)
    sel = _of("features", FeatureBlock.sel)

    def update_x(self, new_data: Any, indexes: Any, processing_hash: str) -> None:
        """Write a variant of some samples.

        Parameters
        ----------
        new_data : sequence or dict of ndarray, Dask array or None
            One ``(n, wavelength)`` array per source; None (or a source missing from a dict) leaves it untouched. A
            single array stands for the only source. Dask arrays make a new variant that is computed when it is read or
            saved, chunk by chunk.
        indexes : polars.DataFrame or sequence of int
            The samples: line k of the arrays belongs to the k-th distinct ``sample``.
        processing_hash : str
            Name of the variant: a new one adds it for those samples, an existing one overwrites their spectra in
            place, which shows in views of them.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If shapes, types or samples do not fit; the dataset is then as it was.

        Notes
        -----
        A sample that shares its row with others (by augmentation) gets a row of its own first, so that no other sample
        changes. Spectra that are a map of a file (or a read-only array that was adopted) are put into memory first:
        earlier views go on showing the file.
        """
        self.features.update_x(new_data, indexes, processing_hash)

    @property
    def processings(self) -> pl.DataFrame:
        """One line per processing: its parent, steps, sources, on what it was fitted; see `Lineage.table`."""
        if enabled():
            log(f"processings: {len(self.lineage)} made by apply")
        return self.lineage.table

    apply = apply
    replay = replay

    def add_targets(self, y_df: pl.DataFrame, meta_df: pl.DataFrame | None = None) -> None:
        """Add targets, and metadata with them; nothing if either does not fit.

        Parameters
        ----------
        y_df : polars.DataFrame
            ``sample``, one column per target (any dtype; a list column ``targets`` holds several), and optionally
            ``processing`` (default ``"raw"``). Without ``sample``, line k is the k-th sample (or original).
        meta_df : polars.DataFrame, optional
            As in `add_meta`.

        Raises
        ------
        TypeError, ValueError, UnknownNameError
            If anything does not fit; the dataset is then as it was.
        """
        with all_or_nothing(self), quiet():
            self.targets.add_targets(y_df)
            if meta_df is not None:
                self.metadata.add_meta(meta_df)
        if enabled():
            log(f"add_targets: {y_df.height} lines" + ("" if meta_df is None else f", metadata of {meta_df.height}"))

    y = _of("targets", TargetBlock.y)
    get_indexed_targets = _of("targets", TargetBlock.get_indexed_targets)

    def update_y(
        self,
        new_values: Any,
        indexes: Any,
        processing_hash: str,
        *,
        target: str | Sequence[str] | None = None,
    ) -> None:
        """Write a version of the targets for some samples.

        Parameters
        ----------
        new_values : array_like, shape (n,) or (n, k)
            One column per target; for a single target, k columns make one vector per sample (one-hot).
        indexes : polars.DataFrame or sequence of int
            The samples: line k of the values belongs to the k-th distinct ``sample``.
        processing_hash : str
            Name of the version, such as ``"regression"``, ``"category"`` or ``"ohe"``: a new one adds it, an existing
            one is overwritten for those samples.
        target : str or sequence of str, optional
            Which targets the values are of (default: all).

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If shapes, dtypes, samples or targets do not fit. The dataset is then as it was.
        """
        self.targets.update_y(new_values, indexes, processing_hash, target=target)

    encode_targets = encode_targets

    add_meta = _of("metadata", MetadataBlock.add_meta)
    meta = _of("metadata", MetadataBlock.meta)

    set_folds = _of("folds", FoldsManager.set_folds)
    fold_generator = _of("folds", FoldsManager.fold_generator)

    def get_data(self, layout: str = "2d", **options: Any) -> Iterator[Any]:
        """Return an iterator over ``X_train, y_train, X_val, y_val``, fold by fold.

        Parameters
        ----------
        layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
        **options
            ``filter``, ``src_concat``, ``processed``, ``target``, ``augmented``: as in `FoldsManager.get_data`.

        Returns
        -------
        iterator of tuple
            X as `x` returns it, a tuple of read-only arrays, one per source; y as `y` returns it. Each fold is read
            when it is asked for.

        Raises
        ------
        ValueError
            If no folds are set, or a fold has no sample that the filter selects.
        """
        return self.folds.get_data(None, layout, **options)

    cross_validate = cross_validate
    fit_predict = fit_predict

    assign_partition = sampling.assign_partition
    flag_outliers = quality.flag_outliers
    check_spectra = quality.check_spectra
    average = averaging.average

    add_prediction = _of("predictions", PredictionBlock.add_prediction)
    prediction = _of("predictions", PredictionBlock.prediction)
    inverse_transform_prediction = _of("predictions", PredictionBlock.inverse_transform_prediction)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        compression: str | None = "zstd",
        format: str = "zarr",
        message: str = "",
        chunks: Mapping[str, int] | None = None,
        overwrite: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> int | None:
        """Write the dataset to a folder or a bucket, as a new version of what is there.

        Parameters
        ----------
        path : str or path-like
            The folder, such as ``"name.spectro"``, or a URL, such as ``"s3://bucket/name"`` (also ``gs://``, ``az://``,
            and ``memory://`` for this process alone).
        compression : {"zstd", "lz4", "zlib", None}
            For ``format="zarr"``; an ``.npy`` file is never compressed. None stores the spectra uncompressed: on a
            local disk `load` then maps them.
        format : {"zarr", "npy"}
            ``zarr``: Zarr for the features, Parquet for the tables; plain xarray and Polars read them. ``npy``: one
            ``.npy`` file per source, Parquet for the tables; local, and without versions.
        message : str, optional
            Kept with the version, see `versions`; not for ``format="npy"``.
        chunks : dict, optional
            Sizes of the compressed chunks along ``row`` and ``wavelength`` (default: about 2 MB of whole rows, or what
            the version before has).
        overwrite : bool, default False
            Save although others have saved to this store since this dataset was loaded or saved. Their versions stay;
            in a folder of ``format="npy"``, what they saved is replaced.
        storage_options : dict, optional
            For a URL: keys of the object store, such as ``{"region": "eu-west-1", "endpoint": "http://..."}``. What is
            not given comes from the usual environment variables.

        Returns
        -------
        int or None
            Number of the version; None for ``format="npy"``.

        Notes
        -----
        What has not changed since the version before (chunks of spectra, tables, documents) is shared with it, not
        written again; nothing is removed before `vacuum`. The version counts once its manifest is in place, in one
        step: whatever happens before, the version before stays current and whole.

        Spectra are stored in (row, processing, wavelength) order, one array per source: the order of rows that `pack`
        made is kept, its ``layout`` and ``src_concat`` are not.

        Raises
        ------
        ConflictError
            If another writer saved to the store first, this one or a copy of the one that the dataset comes from;
            nothing of theirs is changed. A dataset that comes from elsewhere is saved on top of what is there.
        FileExistsError, StoreError
            If there is something at `path` that is not such a store, or it cannot be written.
        OSError
            If the disk is full or the folder cannot be written; what this save wrote is removed again.
        ValueError, TypeError
            If an option makes no sense.
        """
        from spectroxr.io import save

        number = save(
            self,
            path,
            compression=compression,
            format=format,
            message=message,
            chunks=chunks,
            overwrite=overwrite,
            storage_options=storage_options,
        )
        if enabled():
            log(f"save: {os.fspath(path)}, version {number}, compression {compression}, format {format}")
        return number

    @staticmethod
    def load(
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        verify: bool = False,
        lazy: bool = True,
        chunks: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> SpectroDataset:
        """Read a dataset from a folder or a bucket; spectra, and tables over 1 MB, are read when they are asked for.

        Parameters
        ----------
        path : str or path-like
        version : int, optional
            A number that `versions` lists; negative ones count from the newest (default: the newest).
        verify : bool, default False
            Check every file first. Without it, each is checked when it is read, but uncompressed spectra for size only.
        lazy : bool, default True
            False reads all spectra into memory at once.
        chunks : None, "auto", int or dict, optional
            Hand the spectra out as Dask arrays, in chunks of so many rows, or ``{"row": ..., "wavelength": ...}``;
            ``{}`` takes the chunks of the store, ``"auto"`` multiples of them of about 8 MB.
        storage_options : dict, optional
            As in `save`.

        Returns
        -------
        SpectroDataset
            Uncompressed spectra on a local disk are a read-only map of the files, shared by all views. Others are read
            chunk by chunk: `x` and `sel` read those that hold what is selected; what is asked for as a whole (all
            samples of a processing, all wavelengths) stays in memory, and is a view from then on. `pack` brings
            everything into memory.

        Raises
        ------
        FileNotFoundError, StoreError
            If there is no store, or it is damaged, incomplete, newer than this package, or not ours; the message names
            the file.
        UnknownNameError
            If there is no such version.
        ValueError, TypeError
            If an option makes no sense.
        """
        from spectroxr.io import stored

        parts, saved = stored(path, version=version, verify=verify, storage_options=storage_options)
        ds = _rebuilt(parts, [saved], chunks)
        if not lazy:
            ds.features.fetch()
        if enabled():
            log(f"load: {os.fspath(path)}, {len(ds)} samples")
        return ds

    @staticmethod
    def versions(path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Return the versions of a store, oldest first.

        Parameters
        ----------
        path : str or path-like
        storage_options : dict, optional
            As in `save`.

        Returns
        -------
        polars.DataFrame
            ``version``, ``time`` (UTC), ``message``, ``samples``, and ``written``: the bytes that were written for it,
            without what it shares with earlier ones. Null where a store of format 1 does not say.

        Raises
        ------
        FileNotFoundError, StoreError
            If there is no store with versions, or its manifest is damaged.
        """
        from spectroxr.storage import list_versions

        table = list_versions(path, storage_options=storage_options)
        if enabled():
            log(f"versions: {os.fspath(path)}, {table.height} versions")
        return table

    @staticmethod
    def verify(
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Read every file of a store, check it against its checksum, and the tables against each other.

        Parameters
        ----------
        path : str or path-like
        version : int, optional
            Only this one (default: all).
        storage_options : dict, optional
            As in `save`.

        Raises
        ------
        StoreError
            If anything is missing, damaged or contradicts itself; the message names each.
        FileNotFoundError, UnknownNameError
            If there is no such store or version.
        """
        from spectroxr.storage import verify

        verify(path, version=version, storage_options=storage_options)
        if enabled():
            log(f"verify: {os.fspath(path)}")

    @staticmethod
    def vacuum(
        path: str | os.PathLike[str],
        *,
        keep: int = 1,
        storage_options: Mapping[str, Any] | None = None,
    ) -> int:
        """Remove earlier versions of a store, and what saves that were cut off have left.

        Parameters
        ----------
        path : str or path-like
        keep : int, default 1
            How many of the newest versions stay.
        storage_options : dict, optional
            As in `save`.

        Returns
        -------
        int
            Bytes freed.

        Notes
        -----
        Datasets that are open on a removed version, here or in another process, can then no longer read spectra and
        large tables that they have not read yet; spectra that they have mapped stay readable on POSIX systems. In a
        bucket, leftovers are removed a day after they were written, as they may belong to a save under way.

        Raises
        ------
        ConflictError
            If another process is saving.
        FileNotFoundError, StoreError
            If there is no store with versions, or it is damaged.
        ValueError, TypeError
            If `keep` is not a positive whole number.
        """
        from spectroxr.storage import vacuum

        freed = vacuum(path, keep=keep, storage_options=storage_options)
        if enabled():
            log(f"vacuum: {os.fspath(path)}, {freed} bytes freed")
        return freed

    def log(self, message: str, level: str = "INFO") -> None:
        """Send one line to the logger ``spectroxr`` of standard logging; every public method does.

        Parameters
        ----------
        message : str
        level : {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}

        Raises
        ------
        ValueError
            If the level is not one of these.
        """
        log(message, level)

    def print_summary(self) -> None:
        """Print what the dataset holds: samples, sources, processings, targets, metadata, folds, predictions."""
        print(describe(self))
        if enabled():
            log(f"print_summary: {len(self)} samples")


def _rebuilt(parts: Snapshot, origins: Sequence[Saved] = (), chunks: Any = None) -> SpectroDataset:
    from spectroxr.io import fill

    ds = SpectroDataset()
    fill(ds, parts, chunks)
    ds.origins = {saved.place: saved for saved in origins}
    return ds
