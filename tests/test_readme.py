"""The ten lines of the README run as they are printed."""

import re
from pathlib import Path

import numpy as np
from sklearn.cross_decomposition import PLSRegression


def test_the_ten_lines_run(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.S)
    rng = np.random.default_rng(0)
    protein = rng.normal(12, 1, 40)
    names = {
        "nir": np.outer(protein, np.linspace(0.5, 1, 200)) + rng.normal(0, 0.01, (40, 200)),
        "mir": rng.random((40, 100)),
        "nm": np.linspace(1000, 1995, 200),
        "cm1": np.linspace(4000, 1030, 100),
        "protein": protein,
        "model": PLSRegression(4, scale=False),
    }
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "wheat.spectro" / "manifest.json").exists()
    ds = names["ds"]
    assert ds.features.processings == ("raw", "centred")
    assert ds["nir"].sel(wavelength=slice(1100, 1300)).sizes["wavelength"] == 41
