"""Real spectra as datasets, from the folder beside the repository; a test of one skips where that is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from spectroxr import SpectroDataset

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _file(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real set {name} is not beside the repository")
    return path


def olive_oils() -> SpectroDataset:
    """120 mid-infrared spectra of 60 olive oils, each measured twice: target ``country``, metadata ``oil``."""
    lines = _file("olive_mir/FTIR_Spectra_olive_oils.csv").read_text().splitlines()
    oil, _, country = (line.split(",")[1:] for line in lines[:3])
    numbers = np.array([line.split(",") for line in lines[3:] if line.strip(",")], dtype=np.float64)
    ds = SpectroDataset()
    ds.add_data(
        {"mir": np.ascontiguousarray(numbers[:, 1:].T)},
        pl.DataFrame({"country": country}),
        pl.DataFrame({"oil": [int(k) for k in oil]}),
        wavelength=numbers[:, 0],
        units="cm-1",
        quantity="absorbance",
    )
    return ds


def nir_soils() -> SpectroDataset:
    """825 soils with their published partition: targets ``Nt``, ``Ciso`` and ``CEC``, many missing."""
    table = pl.read_csv(_file("nirsoil/nirsoil.csv"), infer_schema_length=None)
    spectra = table.select(pl.selectors.matches(r"^\d"))
    targets = ["Nt", "Ciso", "CEC"]
    ds = SpectroDataset()
    ds.add_data(
        {"nir": spectra.cast(pl.Float64).to_numpy()},
        table.select(pl.col(targets).cast(pl.Float64)),
        wavelength=np.array(spectra.columns, dtype=np.float64),
        units="nm",
        quantity="absorbance",
        partition=table["partition"].to_list(),
    )
    return ds


#: The spectrometers of the sugarcane set: the seven of its publication, one of which measured three times.
SPECTROMETERS = {
    "F750": ["F750.CSV"],
    "MicroNIR1700": ["Micronir1700rep1.CSV", "Micronir1700rep2.CSV", "Micronir1700rep3.CSV"],
    "MicroNIR2200": ["Micronir2200.CSV"],
    "NIRONE2.2": ["Nirone22.CSV"],
    "NIRscan": ["Nirscan_nano.CSV"],
    "SCIO": ["Scio.CSV"],
    "TellSpec": ["Tellspec.CSV"],
}


def sugarcane() -> SpectroDataset:
    """60 samples of sugarcane on seven spectrometers, a source each: targets ``TS``, ``CP``, ``ADF`` and ``IVOMD``.

    The three measurements of MicroNIR1700 are averaged. ``TS`` lacks three values. Metadata ``id``, as in the files.
    """
    references = pl.read_csv(_file("sugarcane/References.csv"), separator=";", null_values=["NA", "NA "])
    targets = references.select(pl.col(references.columns[1:]).cast(pl.Float64))
    ids = references["Sample"].cast(pl.String).str.strip_chars()
    ds = SpectroDataset()
    for name, files in SPECTROMETERS.items():
        axes, matrices = [], []
        for file in files:
            lines = _file(f"sugarcane/{file}").read_text().splitlines()
            axes.append(np.array([float(text) for text in lines[0].split(";")[1:]]))
            rows = [line.split(";") for line in lines[1:] if line.strip(" ;")]
            assert [row[0].strip() for row in rows] == ids.to_list(), f"{file} has other samples than the references"
            matrices.append(np.array([row[1:] for row in rows], dtype=np.float64))
        # the files of one spectrometer round its wavelengths differently
        assert all(np.allclose(axis, axes[0], atol=1e-3) for axis in axes)
        options = {"wavelength": axes[0], "units": "nm", "quantity": "absorbance"}
        if not len(ds.features.sources):
            ds.add_data({name: np.mean(matrices, axis=0)}, targets, pl.DataFrame({"id": ids}), **options)
        else:
            ds.add_source(name, np.mean(matrices, axis=0), ds.features.index_df, **options)
    return ds
