"""The site: `make docs`. Pages are Markdown, the reference is made of docstrings, and a warning is an error."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.domains.python import PyXRefRole
from sphinx.util import logging

import taktora_trio
from taktora_trio import executor

if TYPE_CHECKING:
    from docutils.nodes import Element, Node, system_message
    from docutils.parsers.rst.states import Inliner
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "taktora-trio"
release = version = taktora_trio.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "cyclopts.ext.sphinx"]

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = html_show_sphinx = html_show_sourcelink = html_copy_source = False

myst_heading_anchors = 6

autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # a default that is a function has no text that could be read
python_use_unqualified_type_names = True
add_module_names = False
default_role = "name"

FOLDER = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[\w./-]+/\)")
# What docstrings call the objects that an app works with.
VARIABLES = {
    "host": "ConnectorHost",
    "reader": "ChannelReader",
    "writer": "ChannelWriter",
    "executor": "executor.Executor",
}


def without_folders(app: Sphinx, page: str, source: list[str]) -> None:
    """Leave the text of a link to a folder, which no site has."""
    source[0] = FOLDER.sub(r"\1", source[0])


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element) -> Element | None:
    """Find public names from other modules, `host.open_writer` too; warn of one that leads nowhere."""
    first, _, rest = node.get("reftarget", "").partition(".")
    if node.get("refdomain") != "py":
        return None
    public = first in taktora_trio.__all__ or first in executor.__all__
    if first in VARIABLES and rest:
        target = f"taktora_trio.{VARIABLES[first]}.{rest.partition('(')[0]}"
    else:
        target = f"taktora_trio{'.executor' if first in executor.__all__ else ''}.{node['reftarget']}"
    found: Element | None = env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, text)
    if found is not None:
        return found
    if public and rest:
        logging.getLogger(__name__).warning("no such name in the reference: %s", node["reftarget"], location=node)
    return None


def signature(
    app: Sphinx, what: str, name: str, value: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """Show no constructor where it is private, and an `async with` as what it is."""
    if arguments == "(*args: Any, **kwargs: Any)" or (
        what == "class" and re.search(r"\bUse `", inspect.getdoc(value) or "")
    ):
        return "", None
    inner = getattr(value, "__wrapped__", None)
    if returned is not None and (inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner)):
        returned = returned.replace("Iterator", "ContextManager", 1)
    return arguments and arguments.replace("NOTHING", "..."), returned


def name_role(
    role: str, rawtext: str, text: str, line: int, inliner: Inliner, options: object = None, content: object = ()
) -> tuple[list[Node], list[system_message]]:
    """Make `name` in a docstring a link to that name's entry, or code if it has none."""
    if re.fullmatch(r"[A-Za-z_][\w.]*(\(.*\))?", text):
        return PyXRefRole()("py:obj", rawtext, text, line, inliner)
    return [nodes.literal(rawtext, text)], []


def setup(app: Sphinx) -> None:
    app.add_role("name", name_role)
    app.connect("autodoc-process-signature", signature)
    app.connect("source-read", without_folders)
    app.connect("missing-reference", resolve)
