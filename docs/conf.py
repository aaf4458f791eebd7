"""How `make docs` makes pages of the guide, and of the docstrings of what `import polytask` gives."""

import polytask

project = "Polytask"
version = release = polytask.__version__
copyright = "the Polytask contributors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"Polytask {version}"
html_copy_source = False

# Docstrings are written as Markdown has it: one backtick around code. Their sections are Google's.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
autosummary_generate = False

# Links to headings, as `methods.md` has them to its components; what leads nowhere is a warning, and fails `make docs`.
myst_heading_anchors = 4
