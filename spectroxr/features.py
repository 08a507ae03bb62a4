"""The features: spectra of several sources, their variants and their index."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from spectroxr import adding, rearrange
from spectroxr.cells import sample_ids
from spectroxr.intake import take_in
from spectroxr.lazyread import is_lazy
from spectroxr.log import enabled, log
from spectroxr.reading import FeatureReader
from spectroxr.relabel import update_labels
from spectroxr.schema import Array, Filter, check_layout

__all__ = ["FeatureBlock"]


class FeatureBlock(FeatureReader):
    """Spectra of N aligned sources and their index.

    Usually reached as ``ds.features``; the dataset's methods of the same names call these.
    """

    @property
    def index_df(self) -> pl.DataFrame:
        """The index: one line per existing (sample, processing), with the columns and types of the specification.

        Setting it relabels: the lines must stay; ``partition`` and ``group`` may change per sample and
        ``branch`` per line. ``row`` and ``origin`` are the dataset's.
        """
        return self._cells.index.table.clone()

    @index_df.setter
    def index_df(self, table: pl.DataFrame) -> None:
        self._cells.index.replace(table)
        if enabled():
            log(f"index_df set: {table.height} lines")

    def add_features(
        self,
        x_list: Any,
        *,
        names: Sequence[str] | None = None,
        processing: str | Sequence[str] | None = None,
        wavelength: Any = None,
        units: Any = None,
        quantity: Any = None,
        attrs: Mapping[str, Any] | None = None,
        partition: Any = None,
        group: Any = None,
        branch: Any = None,
        copy: bool = True,
    ) -> None:
        """Add spectra: sources at the first call, more rows (or new sources by name) later.

        Parameters
        ----------
        x_list : list or dict of array_like or xarray.DataArray, or one of them
            Per source ``(row, wavelength)`` or ``(row, processing, wavelength)``, float32 or float64. A dict or
            the names of DataArrays name the sources; a DataArray brings its axis, units and processings, and
            ``partition``, ``group``, ``branch`` if they are coordinates of its rows. At later calls None stands
            for a source in which these samples were not measured (a hole). If all names are new, the arrays are
            new sources for the samples that exist, line by line.
        names : sequence of str, optional
            Names of the sources (default ``source0``, ``source1``, ... or those that exist).
        processing : str or sequence of str, optional
            Names along the processing axis (default ``raw``, then ``variant1``, ...).
        wavelength : array_like, or list or dict of them per source, optional
            The axes, in the order of the spectra; numbers, all different (default 0, 1, 2, ...).
        units : str, or list or dict per source, optional
            Unit of the axis: nm, um, cm-1, eV.
        quantity : str, or list or dict per source, optional
            What was measured: absorbance, reflectance, ...
        attrs : dict, optional
            Further JSON values to keep with the sources, such as ``{"laser_nm": 785}``; each one for all, or a list
            or dict per source.
        partition, group, branch : scalar or sequence, optional
            Labels of the new samples (default ``"train"``, 0, 0), one for all or one each.
        copy : bool, default True
            False adopts the arrays of new sources without copying (unless two of their cells are the same memory): do
            not write to them afterwards, and know that `update_x` on cells that exist does.

        Raises
        ------
        TypeError
            If spectra are not float, or would lose precision in an existing source.
        ValueError
            If shapes, axes, units or names do not fit. The dataset is then as it was.

        Notes
        -----
        Views handed out earlier stay as they are. Rows are added in amortised time.
        """
        added = adding.add_rows(
            self._cells,
            self,
            x_list,
            names=names,
            processing=processing,
            wavelength=wavelength,
            attrs={"units": units, "quantity": quantity, **(attrs or {})},
            labels={"partition": partition, "group": group, "branch": branch},
            copy=copy,
        )
        if enabled():
            log(f"add_features: {added} samples, sources {list(self._cells.sources)}")

    def add_source(
        self,
        name: str,
        spectra: Any,
        indexes: Any = None,
        *,
        processing: str | Sequence[str] | None = None,
        wavelength: Any = None,
        units: str | None = None,
        quantity: str | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a source for samples that exist: another instrument, or spectra on a changed axis.

        Parameters
        ----------
        name : str
        spectra : array_like or DataArray, shape (n, wavelength) or (n, processing, wavelength)
        indexes : polars.DataFrame or sequence of int, optional
            The samples of the lines, as for `update_x` (default: all, ids ascending). Samples that are not
            named have a hole in this source.
        processing, wavelength, units, quantity, attrs
            As in `add_features`.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If anything does not fit; the dataset is then as it was.
        """
        (item,) = take_in({name: spectra})
        kept = {**(attrs or {}), "units": units, "quantity": quantity}
        ids = adding.add_source(self._cells, self, item, indexes, processing, wavelength, kept)
        if enabled():
            log(f"add_source: {name!r} for {len(ids)} samples")

    def dump_numpy(self, path: str | os.PathLike[str]) -> list[Path]:
        """Write one ``features_src#.npy`` per source, ``(row, processing, wavelength)``, into a folder.

        Parameters
        ----------
        path : str or path-like
            The folder; made if it is missing.

        Returns
        -------
        list of Path
            The files, in the order of the sources. `SpectroDataset.save` with ``format="npy"`` writes the tables too.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"features_src{k}.npy" for k in range(len(self.sources))]
        for file, source in zip(files, self.sources, strict=True):
            np.save(file, source.array, allow_pickle=False)
        if enabled():
            log(f"dump_numpy: {len(files)} sources")
        return files

    def load_numpy(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Add the sources of a folder of ``features_src#.npy``, mapped and not read.

        Parameters
        ----------
        path : str or path-like
        **options
            As in `add_features`.

        Raises
        ------
        FileNotFoundError
            If the folder holds no such file.
        """
        files: list[Path] = []
        while (file := Path(path) / f"features_src{len(files)}.npy").exists():
            files.append(file)
        if not files:
            raise FileNotFoundError(f"{path} holds no features_src0.npy.")
        arrays = [np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) for file in files]
        self.add_features(arrays, **{"copy": False, **options})

    def fetch(self) -> None:
        """Read into memory all spectra that are still in a store or computed by Dask."""
        for source in self._cells.sources.values():
            names = [name for name in self._cells.index.processings if is_lazy(source, [name])]
            with self._cells.lock:
                if names:
                    source.consolidate(names, self._cells.rows)
        if enabled():
            log(f"fetch: {len(self._cells.sources)} sources")

    def update_x(self, new_data: Any, indexes: Any, processing_id: str) -> None:
        """Write a variant of some samples.

        Parameters
        ----------
        new_data : sequence or dict of ndarray, Dask array or None
            One ``(n, wavelength)`` array per source; None (or a source missing from a dict) leaves it untouched. A
            single array stands for the only source. A Dask array is computed, and checked, when it is read or saved.
        indexes : polars.DataFrame or sequence of int
            The samples: line k of the arrays belongs to the k-th distinct ``sample``.
        processing_id : str
            A new name adds a variant for those samples; an existing one overwrites their spectra in place, which
            shows in views of them. A sample that shares its row with others (by augmentation) gets a row of its
            own first, so that no other sample changes.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If shapes, types or samples do not fit; the dataset is then as it was.
        """
        written, moved = adding.update(self._cells, new_data, indexes, processing_id)
        if enabled():
            log(f"update_x: {written} samples, processing {processing_id!r}, {moved} given a row of their own")

    def augment_samples_x(self, spec: Sequence[tuple[int, int]]) -> pl.DataFrame:
        """Add augmented samples that share the spectra of their origins; no spectrum is moved.

        Parameters
        ----------
        spec : sequence of (sample, copies)

        Returns
        -------
        polars.DataFrame
            The new lines of the index: new ids, ``origin`` the sample they were derived from, its labels, its
            processings.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If a sample does not exist or a count is not positive; the dataset is then as it was.
        """
        pairs = [_pair(pair) for pair in spec]
        if not pairs:
            raise ValueError("spec names no sample.")
        known = self.n_samples()
        parents = np.array([sample_ids([sample], known)[0] for sample, _ in pairs], dtype=np.uint32)
        return self._augment(parents, np.array([copies for _, copies in pairs]), "augment_samples_x")

    def augment_features_x(self, copies_per_sample: int, *, filter: Filter = None) -> pl.DataFrame:
        """Add `copies_per_sample` augmented samples for each sample; no spectrum is moved.

        Parameters
        ----------
        copies_per_sample : int
        filter : None, dict or polars.Expr
            Only of these samples (default: of all there are, augmented ones included).

        Returns
        -------
        polars.DataFrame
            The new lines of the index, as `augment_samples_x`.

        Raises
        ------
        ValueError, TypeError
            If the number of copies is not a positive whole number, or the filter matches nothing.
        """
        _, copies = _pair((0, copies_per_sample))
        samples = self._resolver.samples(filter)
        return self._augment(samples, np.full(len(samples), copies), "augment_features_x")

    def _augment(self, parents: Array, copies: Array, call: str) -> pl.DataFrame:
        ids = adding.augment(self._cells, parents, copies)
        index = self._cells.index
        if enabled():
            log(f"{call}: {len(ids)} samples from {len(parents)}")
        return pl.concat([index.part(name, ids[has]) for name in index.lines if (has := index.has(ids, name)).any()])

    def update_indexes(self, indexes: pl.DataFrame, updates: Mapping[str, Any]) -> None:
        """Change labels in the index.

        Parameters
        ----------
        indexes : polars.DataFrame or sequence of int
            Lines of the index. ``partition`` and ``group`` belong to the sample and change in all its lines;
            ``branch`` changes in the lines given, or in all of the sample's where ``processing`` is null or missing.
        updates : dict
            ``partition``, ``group``, ``branch``: one value, or one per line of `indexes`. ``processing``: a new name
            for the one processing of `indexes`, which must be all its lines.

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If a column cannot be set, a value does not fit its type, or a line does not exist; the dataset is
            then as it was.
        """
        count = update_labels(self._cells, indexes, updates)
        if enabled():
            log(f"update_indexes: {count} lines, {list(updates)}")

    def merge(self, sources: Sequence[int | str]) -> None:
        """Join sources into one, physically, in the order given.

        Parameters
        ----------
        sources : sequence of int or str
            Two or more, by position or name.

        Raises
        ------
        NotRectangularError
            If some sample or processing is in one of them only.
        UnknownNameError, ValueError
            If a source does not exist or comes twice. The dataset is then as it was.

        Notes
        -----
        The merged source is named ``a+b``, stands at the place of the first, and its axis carries a ``source``
        coordinate. Views handed out earlier keep the arrays they show.
        """
        name = rearrange.merge(self._cells, self, sources)
        if enabled():
            log(f"merge: {name!r}")

    def split(
        self,
        ranges: Sequence[tuple[int, int]],
        source: int | str | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        """Cut a source into several along its axis, physically.

        Parameters
        ----------
        ranges : sequence of (start, stop)
            Positions on the axis, stop excluded, following each other from 0 to its end.
        source : int or str, optional
            Which one (default: the only one).
        names : sequence of str, optional
            Names of the parts (default: those the parts had before `merge`, else ``name[start:stop]``).

        Raises
        ------
        ValueError, TypeError, UnknownNameError
            If the ranges do not cover the axis once, or a name is taken. The dataset is then as it was.
        """
        labels = rearrange.split(self._cells, self, ranges, source, names)
        if enabled():
            log(f"split: into {labels}")

    def pack(self, by: str | Sequence[str] | None = None, layout: str = "3d", src_concat: bool = False) -> None:
        """Rearrange the storage once, so that more selections are views; no getter returns other values.

        Parameters
        ----------
        by : str or sequence of str, optional
            Columns of the index, the metadata or the targets to sort the rows by (then by sample), so that a filter
            on them becomes a range of rows. Default: the order of the samples.
        layout : {"2d", "2d_interlaced", "3d", "3d_transpose"}
            What to store for: (row, processing, wavelength) order serves ``2d``, ``3d`` and ``3d_transpose``;
            ``2d_interlaced`` stores (row, wavelength, processing).
        src_concat : bool
            Put all sources into one buffer, side by side, so that this layout with ``src_concat=True`` is a view.

        Raises
        ------
        UnknownNameError
            If a column does not exist.
        ValueError
            If sources of several dtypes are to share a buffer.

        Notes
        -----
        Needs room for a second copy of the spectra while it works. Sample ids stay; ``row`` changes. Views handed
        out earlier keep showing what they showed, and later updates no longer reach them.
        """
        kind = check_layout(layout)
        order = None
        if by is not None:
            columns = [by] if isinstance(by, str) else list(by)
            order = pl.DataFrame([self.column(name) for name in columns])
        if not self._cells.sources:
            raise ValueError("there is nothing to pack yet; add_features comes first.")
        with self._cells.lock:
            rearrange.pack(self._cells, order, kind, src_concat)
        if enabled():
            log(f"pack: by {by}, layout {layout}, src_concat {src_concat}")


def _pair(pair: tuple[int, int]) -> tuple[int, int]:
    try:
        sample, copies = pair
    except (TypeError, ValueError):
        raise TypeError(f"augmentation takes (sample, copies) pairs, not {pair!r}.") from None
    for value, what in ((sample, "a sample id"), (copies, "a number of copies")):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{what} is a whole number, not {value!r}.")
    if copies < 1:
        raise ValueError(f"the number of copies is at least 1, not {copies}.")
    return int(sample), int(copies)
