# SPDX-License-Identifier: BSD-3-Clause
project = "vhost-switch"
author = "the vhost-switch authors"
copyright = "2026, the vhost-switch authors"
highlight_language = "text"
extensions = ["sphinx.ext.graphviz"]
graphviz_output_format = "svg"
master_doc = "index"
exclude_patterns = ["man"]
html_theme = "alabaster"
html_theme_options = {"description": "A virtual Ethernet switch on DPDK", "page_width": "1240px", "body_max_width": "980px"}
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_show_sourcelink = False
man_pages = [
    ("vhost-switch", "vhost-switch", "virtual Ethernet switch between guests", [author], 1),
    ("qemu-wrap", "qemu-wrap.py", "start QEMU on the character device of vhost-switch", [author], 1),
]
nitpicky = True

# Pages that were merged into others, for links that still name them.
MOVED = {"guests": "overview", "containers": "dpdk_guests"}


def moved_page(app, env, node, contnode):
    if node.get("reftype") == "doc" and node["reftarget"] in MOVED:
        node["reftarget"] = MOVED[node["reftarget"]]
        return env.get_domain("std").resolve_xref(env, node["refdoc"], app.builder, "doc",
                                                  node["reftarget"], node, contnode)
    return None


def setup(app):
    app.connect("missing-reference", moved_page)
