import numpy as np
import polars as pl
import pytest

from spectroxr import SpectroDataset
from spectroxr.narrowing import Narrowing


def part(model, folds=(0,)):
    columns = {"model": [model] * len(folds), "fold": list(folds), "repeat": 0, "seed": None}
    return pl.DataFrame(columns, schema_overrides={"model": pl.String, "fold": pl.Int64, "seed": pl.Int64})


def test_parts_that_cannot_hold_what_is_asked_for_are_left_out():
    known, parts = Narrowing(), [part("PLS"), part("PCR", (0, 1)), part(None), part("PLS", (2,))]
    for one in parts:
        known.note(one)
    chosen = [
        [k for k, one in enumerate(parts) if any(one is some for some in known.narrowed(parts, filter))]
        for filter in (
            {"model": "PLS"},
            {"model": ["PLS", None]},
            {"fold": 1},
            {"fold": (0, 2)},
            {"model": pl.col("model") == "PCR"},
            {"fold": 1.0},
            None,
            {"partition": "val"},
            {"model": "PLS", "fold": 2},
            {"seed": None},
            {"seed": 3},
        )
    ]
    assert chosen == [
        [0, 3],
        [0, 2, 3],
        [1],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [3],
        [0, 1, 2, 3],
        [],
    ]


def test_what_is_known_of_a_part_that_is_gone_is_not_believed_of_another():
    known = Narrowing()
    for k in range(200):
        gone = part(f"m{k}")
        known.note(gone)
        del gone
        other = part("other")
        assert len(known.narrowed([other], {"model": "other"})) == 1


@pytest.mark.parametrize(
    "filter", [{"model": "m3"}, {"model": ["m1", "m4"], "fold": 1}, {"fold": 0}, {"model": "none"}]
)
def test_queries_between_additions_give_what_a_query_of_the_whole_gives(filter):
    ds = SpectroDataset()
    ds.add_features([np.zeros((4, 2))])
    for k in range(6):
        for fold in (0, 1):
            ds.add_prediction(np.arange(4.0) + k, {"model": f"m{k}", "fold": fold, "processing": "raw"})
        if k == 3:
            ds.inverse_transform_prediction([lambda y: y + 100], {"model": "m3"}, store="regression")
        found = ds.predictions.select(filter), ds.predictions.select(filter, processed=False)
        whole = SpectroDataset()
        whole.add_features([np.zeros((4, 2))])
        whole.predictions.restore(ds.predictions.table)
        assert found[0].equals(whole.predictions.select(filter))
        assert found[1].equals(whole.predictions.select(filter, processed=False))
