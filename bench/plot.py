#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draw what bench/bench.py printed: rates of the switch and of its peers side by side.

    bench/plot.py TABLE SVG [MODE[:GUESTS]...]

A group for each peer, mode and number of guests, a colour for each peer. Two bars are the rates of
one pair, which was measured in turns; the number after them is the median of its ratios. A peer's
rate is the switch's in that pair, divided by it. Rows without a ratio of rates are left out.
"""

import re
import sys
from itertools import groupby
from xml.sax.saxutils import escape

NAMES = {"testpmd io": "dpdk-testpmd, io mode", "Open vSwitch": "Open vSwitch-DPDK",
         "2 guests": "vhost-switch, 2 guests"}
CLASSES = {"testpmd io": "testpmd", "Open vSwitch": "ovs"}
LABEL, BARS, WIDTH = 52, 280, 480  # pixels: where bars begin, the longest, and all
BAR, GAP, HEAD = 14, 8, 34

STYLE = """
:root { --ink: #1f2328; --dim: #59636e; --ours: #1a66c9; --testpmd: #b26a00; --ovs: #6f7780; }
@media (prefers-color-scheme: dark) {
	:root { --ink: #d9dde2; --dim: #9aa4ae; --ours: #58a6ff; }
	:root { --testpmd: #e0a040; --ovs: #8b949e; }
}
text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
.head, .ratio { font-weight: bold; }
.dim { fill: var(--dim); font-size: 12px; }
.ours { fill: var(--ours); } .testpmd { fill: var(--testpmd); } .ovs { fill: var(--ovs); }
.other { fill: var(--dim); }
"""


def parse(text):
    """(mode, peer, guests, bytes, low, ratio, high, rate) of each row with a ratio of rates."""
    row = re.compile(r"(\S+) +(\S.*?) +(\d+) +(\d+) +([\d.]+) +([\d.]+)-([\d.]+) +([\d.]+) "
                     r"+[\d.]+.*")
    found = []
    for m in filter(None, map(row.fullmatch, text.splitlines())):
        ratio, low, high, mpps = map(float, m.groups()[4:])
        found.append((m[1], m[2], int(m[3]), int(m[4]), low, ratio, high, mpps * 1e6))
    return found


def text(x, y, words, kind="", end=False):
    more = (f' class="{kind}"' if kind else "") + (' text-anchor="end"' if end else "")
    return f'<text x="{x}" y="{y}"{more}>{escape(words)}</text>'


def bar(y, kind, rate, most):
    """One bar with its rate at the end."""
    long = max(1, round(BARS * rate / most))
    return [f'<rect x="{LABEL}" y="{y}" width="{long}" height="{BAR}" rx="2" class="{kind}"/>',
            text(LABEL + long + 5, y + BAR - 3, f"{rate / 1e6:.1f} Mpps", "dim")]


def pair(y, row, most):
    """A row of the table: the switch, the peer, and the ratio."""
    _, peer, _, size, low, ratio, high, rate = row
    return [text(0, y + BAR + 5, f"{size} B"),
            *bar(y, "ours", rate, most),
            *bar(y + BAR + 1, CLASSES.get(peer, "other"), rate / ratio, most),
            text(WIDTH, y + BAR - 2, f"{ratio:.2f} ×", "ratio", True),
            text(WIDTH, y + 2 * BAR, f"{low:.2f}–{high:.2f}", "dim", True)]


def title(y, peer, mode, guests):
    kind = CLASSES.get(peer, "other")
    words = f"{mode}, {guests} guest{'s' if guests != 1 else ''}"
    return [f'<text x="0" y="{y}"><tspan class="ours head">vhost-switch</tspan> and '
            f'<tspan class="{kind} head">{escape(NAMES.get(peer, peer))}</tspan></text>',
            text(WIDTH, y, words, "dim", True)]


def draw(rows, path):
    """The plot of some rows, as a file that follows the reader's colours."""
    order = list(dict.fromkeys(r[1] for r in rows))
    rows = sorted(rows, key=lambda r: order.index(r[1]))  # by peer, else as they stand
    most = max(max(r[7], r[7] / r[5]) for r in rows)
    parts, y = [], 0
    for (peer, mode, guests), group in groupby(rows, key=lambda r: (r[1], r[0], r[2])):
        parts += title(y + 16, peer, mode, guests)
        y += HEAD - 8
        for row in group:
            parts += pair(y, row, most)
            y += 2 * BAR + GAP
        y += GAP
    words = [f"{mode}, {guests} guests, {size} bytes: {rate / 1e6:.1f} Mpps, {ratio:.2f} of {peer}"
             for mode, peer, guests, size, _, ratio, _, rate in rows]
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" '
                f'width="{WIDTH * 1.25:.0f}" height="{y * 1.25:.0f}" role="img">\n'
                f"<title>Forwarding rates</title>\n<desc>{escape('; '.join(words))}</desc>\n"
                f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n")


def wanted(row, words):
    """MODE, or MODE:GUESTS."""
    return not words or row[0] in words or f"{row[0]}:{row[2]}" in words


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as table:
        draw([r for r in parse(table.read()) if r[1] in CLASSES and wanted(r, sys.argv[3:])],
             sys.argv[2])
