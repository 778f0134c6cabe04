"""How Sphinx builds the documentation."""

from __future__ import annotations

from airflow_provider_bitrix24 import __version__

project = "airflow-provider-bitrix24"
author = "airflow-provider-bitrix24 maintainers"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
suppress_warnings = ["ref.python"]  # names like `execute` that autodoc finds in more than one class
