# SPDX-License-Identifier: BSD-3-Clause
import os

project = "vhost-switch"
author = "the vhost-switch authors"
copyright = "2026, the vhost-switch authors"
highlight_language = "text"
extensions = ["sphinx.ext.graphviz"]
graphviz_output_format = "svg"
master_doc = "index"
exclude_patterns = ["man"]

# Debian's furo: contents, search, sections of the page, previous and next, dark mode and phones are
# the theme's; _static/guide.css has only what it does not know of.
html_theme = "furo"
html_title = "vhost-switch"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_show_sourcelink = False
html_copy_source = False
# Colours: "make check-guide" holds text and code to a contrast of 4.5 to 1.
pygments_style = "xcode"
pygments_dark_style = "github-dark"

# Debian 12's furo has its dark colours only for readers who choose them by the button. These are
# the same, for those whose browser asks for dark pages.
DARK = {
    "color-problematic": "#ee5151",
    "color-foreground-primary": "#ffffffcc",
    "color-foreground-secondary": "#9ca0a5",
    "color-foreground-muted": "#8b9198",
    "color-foreground-border": "#666666",
    "color-background-primary": "#131416",
    "color-background-secondary": "#1a1c1e",
    "color-background-hover": "#1e2124ff",
    "color-background-hover--transparent": "#1e212400",
    "color-background-border": "#303335",
    "color-background-item": "#444",
    "color-brand-primary": "#5ca8f5",
    "color-brand-content": "#5ca8f5",
    "color-highlighted-background": "#083563",
    "color-guilabel-background": "#08356380",
    "color-guilabel-border": "#13395f80",
    "color-api-keyword": "var(--color-foreground-secondary)",
    "color-highlight-on-target": "#333300",
    "color-admonition-background": "#18181a",
    "color-card-background": "#18181a",
    "color-card-marginals-background": "var(--color-background-hover)",
}
html_theme_options = {"navigation_with_keys": True, "dark_css_variables": DARK}

man_pages = [
    ("vhost-switch", "vhost-switch", "virtual Ethernet switch between guests", [author], 1),
    ("qemu-wrap", "qemu-wrap.py", "start QEMU on the character device of vhost-switch", [author], 1),
]
nitpicky = True


def join_scripts(app, exception):
    """Debian 12's furo.js imports a module, which a page's plain script may not: put it in."""
    scripts = os.path.join(app.outdir, "_static/scripts")
    path = os.path.join(scripts, "furo.js")
    if exception or not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as f:
        head, found, rest = f.read().partition('import Gumshoe from "./gumshoe-patched.js";')
    if found:
        with open(os.path.join(scripts, "gumshoe-patched.js"), encoding="utf-8") as f:
            module = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(head + module + rest)


def setup(app):
    app.connect("build-finished", join_scripts)
