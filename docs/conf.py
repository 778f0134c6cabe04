"""How Sphinx builds the documentation."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from airflow_provider_bitrix24 import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

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


class CommandHelp(SphinxDirective):
    """What a command prints for ``--help``, as it is when the documentation is built."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the text as a literal block below the command's name."""
        command = [sys.executable, "-m", "airflow_provider_bitrix24", *self.arguments[0].split(), "--help"]
        environment = {**os.environ, "COLUMNS": "100"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
        return [nodes.rubric("", f"bitrix24-airflow {self.arguments[0]}"), nodes.literal_block("", done.stdout)]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
