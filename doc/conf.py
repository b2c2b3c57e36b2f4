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
