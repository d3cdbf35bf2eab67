"""Sphinx's settings for ``make docs``, and what the pages have of their own: links between them, lists of routes."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

import flask_hubspot_hitl

project = "Flask-HubSpot-HITL"
version = release = flask_hubspot_hitl.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"
html_extra_path = ["export.schema.json", "grafana.json"]
html_copy_source = html_show_sourcelink = False
copyright = "its authors, MIT license"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
pygments_style, pygments_dark_style = "friendly", "monokai"

CITED = re.compile(r"docs/([\w-]+)\.rst(?: (?:\(([^()]+)\)|([A-Z][0-9]*))?)?")


class Citations(SphinxPostTransform):
    """Make a link of ``docs/page.rst (Section)``, a form of citation that can be read without Sphinx, too."""

    default_priority = 5

    def run(self, **_kwargs: Any) -> None:
        """Replace each literal that is nothing but a citation."""
        for node in list(self.document.findall(nodes.literal)):
            found = CITED.fullmatch(node.astext())
            if found is None or found[1] not in self.env.found_docs:
                continue
            shown = node.astext().removeprefix("docs/").replace(".rst", "", 1)
            link = addnodes.pending_xref(
                "",
                nodes.inline("", shown),
                refdomain="std",
                reftype="doc",
                reftarget=f"/{found[1]}",
                refdoc=self.env.current_document.docname,
                refexplicit=True,
                refwarn=True,
            )
            node.replace_self(link)


class Links(SphinxPostTransform):
    """Have ```page.rst <page.rst>`_``, which leads to the file where it is read as such, lead to the site's page."""

    default_priority = 5

    def run(self, **_kwargs: Any) -> None:
        """Change each link to a page; what is above this folder is not on the site, and is told without a link."""
        here = self.env.current_document.docname
        for node in list(self.document.findall(nodes.reference)):
            to, sharp, anchor = str(node.get("refuri", "")).partition("#")
            if to.startswith("../"):
                node.replace_self(node.children)
            elif to.removesuffix(".rst") in self.env.found_docs:
                node["refuri"] = self.app.builder.get_relative_uri(here, to.removesuffix(".rst")) + sharp + anchor


class Routes(Directive):
    """List the routes of an app whose paths begin with the argument: ``.. routes:: /_sim``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make a definition list of methods and path, with the first sentence of the view's docstring."""
        from flask_hubspot_hitl.simulator.app import create_app
        from flask_hubspot_hitl.simulator.engine.simulation import Simulation

        app = create_app(Simulation())
        listed = nodes.definition_list()
        rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
        for rule in (one for one in rules if one.rule.startswith(self.arguments[0])):
            methods = ", ".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            words = (app.view_functions[rule.endpoint].__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
            term = nodes.term("", "", nodes.literal("", f"{methods} {rule.rule}"))
            listed += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", words)))
        return [listed]


def setup(app: Sphinx) -> None:
    """Add what the pages have of their own."""
    app.add_post_transform(Citations)
    app.add_post_transform(Links)
    app.add_directive("routes", Routes)
