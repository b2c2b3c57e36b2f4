# SPDX-License-Identifier: BSD-3-Clause
project = "vhost-switch"
author = "the vhost-switch authors"
copyright = "2026, the vhost-switch authors"
highlight_language = "text"
extensions = []
master_doc = "index"
html_theme = "alabaster"
html_theme_options = {"description": "A virtual Ethernet switch on DPDK", "page_width": "1000px"}
man_pages = [("options", "vhost-switch", "virtual Ethernet switch on DPDK", [author], 1)]
nitpicky = True
