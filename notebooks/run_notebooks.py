"""Runs every notebook from top to bottom, in a copy: ``make notebooks``.

The name keeps it out of the unit tests, which need no Jupyter.
"""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

#: Our own warnings and numpy's are errors; what other packages announce about their future is not ours to fix.
STRICT = """\
import warnings
warnings.filterwarnings("error")
warnings.filterwarnings("default", category=DeprecationWarning)
warnings.filterwarnings("default", category=FutureWarning)
warnings.filterwarnings("default", category=PendingDeprecationWarning)
for _kind in (DeprecationWarning, FutureWarning):
    warnings.filterwarnings("error", category=_kind, module=r"spectroxr|__main__")
"""


@pytest.fixture
def quiet_kernel(tmp_path, monkeypatch):
    """A profile in which nobody's start-up files run and the filters above are in force from the first cell."""
    profile = tmp_path / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "warnings.py").write_text(STRICT)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")


def test_there_are_notebooks():
    assert NOTEBOOKS, f"no notebook in {FOLDER}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, quiet_kernel):
    copy = tmp_path / "notebooks"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    notebook = nbformat.read(copy / path.name, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": os.fspath(copy)}}
    ).execute()
    printed = [
        f"cell {number}: {output.text.strip()}"
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr" and "Warning" in output.text
    ]
    assert not printed, "the notebook prints warnings:\n" + "\n".join(printed)
