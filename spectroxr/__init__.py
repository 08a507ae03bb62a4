"""spectroxr: labelled arrays for spectroscopy.

Spectra of several instruments, their processed versions, targets, metadata, folds and predictions, kept aligned,
read as zero-copy views, stored as Zarr and Parquet.
"""

from __future__ import annotations

from spectroxr.dataset import SpectroDataset
from spectroxr.errors import (
    ConflictError,
    NotRectangularError,
    NoViewError,
    SpectroWarning,
    StoreError,
    UnknownNameError,
)
from spectroxr.recipe import processing_hash

__all__ = [
    "ConflictError",
    "NoViewError",
    "NotRectangularError",
    "SpectroDataset",
    "SpectroWarning",
    "StoreError",
    "UnknownNameError",
    "__version__",
    "processing_hash",
]

__version__ = "0.1.0"
