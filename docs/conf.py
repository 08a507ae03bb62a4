"""Settings of the documentation: Sphinx with MyST pages whose code cells are executed while building."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import spectroxr

project = "spectroxr"
author = "The spectroxr developers"
copyright = author
version = release = spectroxr.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
templates_path: list[str] = []
suppress_warnings: list[str] = []
default_role = "py:obj"

# Docstrings name their types in the numpydoc way, so signatures go without.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False
python_use_unqualified_type_names = True

# Every output is of the build itself: nothing is cached, an error that no cell announces stops the build, and so does
# anything a cell writes to stderr (warnings above all).
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "warn"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"spectroxr {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

# Kernels run with a profile of their own: nobody's start-up files take part, and they report errors only.
_ipython = Path(tempfile.mkdtemp(prefix="spectroxr-docs-"))
atexit.register(shutil.rmtree, _ipython, ignore_errors=True)
(_ipython / "profile_default").mkdir()
(_ipython / "profile_default" / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")
os.environ["IPYTHONDIR"] = str(_ipython)
