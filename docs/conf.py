"""How Sphinx builds the documentation: `sphinx-build -W docs FOLDER`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saslwrap import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "saslwrap"
author = "The saslwrap developers"
copyright = author  # noqa: A001 - Sphinx's name for it
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"saslwrap {release}"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

default_role = "code"  # docstrings write `name` for code, as Markdown does
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True


def drop_module_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Leave out what a module says to those who read its source: each page has its own intro."""
    if what == "module":
        lines.clear()


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", drop_module_docstring)
