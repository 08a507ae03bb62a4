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
