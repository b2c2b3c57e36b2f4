# SPDX-License-Identifier: BSD-3-Clause
"""What a user meets in the log or in a counter is found in the guide."""

import glob
import os
import re
import subprocess
import urllib.parse
from html.parser import HTMLParser

import pytest

from tree import ROOT


def guide():
    text = " ".join(open(path, encoding="utf-8").read() for path in glob.glob(f"{ROOT}/doc/*.rst"))
    return re.sub(r"\s+", " ", text)


def sources():
    for path in sorted(glob.glob(f"{ROOT}/*.c") + glob.glob(f"{ROOT}/[a-z]*/*.c")):
        if not path.startswith((f"{ROOT}/build/", f"{ROOT}/tests/", f"{ROOT}/bench/",
                                f"{ROOT}/eventfd_link/")):
            with open(path, encoding="utf-8") as f:
                yield f.read()


def fixed_piece(call):
    """The longest piece of a call's format that is the same in every line it prints."""
    words = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call.split('\\n"')[0] + '"'))
    words = words.replace('\\"', '"').removeprefix("vhost-switch: ")
    words = re.sub(r" {2,}", " ... ", words)  # a macro between two strings
    pieces = re.split(r"%[-0-9.*]*[a-z]+|\\n|[:(),;]", words)
    return max((p.strip() for p in pieces), key=len, default="")


def messages():
    """A piece of each line that the program writes to its log or to stderr."""
    found = set()
    for text in sources():
        calls = re.findall(r"RTE_LOG\((?:ERR|WARNING|INFO), \w+,(.*?)\);", text, re.S)
        calls += re.findall(r"fprintf\(stderr,(.*?)\);", text, re.S)
        calls += re.findall(r"error_set\(\S+, -?\w+,(.*?)\);", text, re.S)
        found |= {piece for piece in map(fixed_piece, calls) if len(piece) > 8}
    assert len(found) > 40
    return sorted(found)


def bars():
    """Why a guest has no traffic, as telemetry says it."""
    with open(f"{ROOT}/control/stats.c", encoding="utf-8") as f:
        body = f.read().split("stats_no_traffic_reason(")[1]
    found = re.findall(r'"([a-z][^"]+)"', body)
    assert len(found) == 4
    return found


def refusals():
    """Why an ioctl was refused, after its errno, or a message of a front end."""
    found = set()
    before = r'(?:why =|return|[?:]|(?:log_refused|break_off)\(c,) "([^":(]+)'
    for path in glob.glob(f"{ROOT}/cuse/*.c") + glob.glob(f"{ROOT}/vhost/c*.c"):
        with open(path, encoding="utf-8") as f:
            found |= {t for t in re.findall(before, f.read()) if len(t) > 8}
    assert len(found) > 28
    return sorted(text.strip() for text in found)


def reasons():
    with open(f"{ROOT}/stats/counters.h", encoding="utf-8") as f:
        found = set(re.findall(r'_\(\w+, "?([a-z_]+)"?[,)]', f.read()))
    assert len(found) > 10, found
    return sorted(found)


@pytest.mark.parametrize("reason", reasons())
def test_a_drop_reason_is_explained(reason):
    assert f"``{reason}``" in guide()


@pytest.mark.parametrize("message", messages())
def test_a_line_is_explained(message):
    assert message in guide()


@pytest.mark.parametrize("text", bars() + refusals())
def test_a_reason_is_explained(text):
    assert f"``{text}``" in guide()


def test_every_page_is_in_the_contents():
    with open(f"{ROOT}/doc/index.rst", encoding="utf-8") as f:
        listed = set(re.findall(r"^   ([a-z0-9_-]+)$", f.read(), re.M))
    assert listed == {os.path.basename(p)[:-4] for p in glob.glob(f"{ROOT}/doc/*.rst")} - {"index"}


def pages():
    return sorted(glob.glob(f"{ROOT}/doc/*.rst"))


@pytest.mark.parametrize("path", [p for p in pages()
                                  if not p.endswith(("index.rst", "glossary.rst"))])
def test_a_page_says_what_it_is_for_and_where_to_go_next(path):
    """Its first line is what its reader can do after it, its last section is the next page."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    first = re.match(r"[^\n]+\n=+\n\n([^\n]+)", text)
    assert first and re.match(r"(After this page|Here) ", first[1]), f"{path}: {text[:80]}"
    last = re.split(r"\n\n([^\n]+)\n-+\n\n", text)[-2:]
    assert last[0] == "Next" and re.search(":(doc|ref):`", last[1]), f"{path}: ends with {last[0]}"


@pytest.mark.parametrize("path", pages() + [f"{ROOT}/README.rst"])
def test_what_readers_copy_has_no_marks_of_tests(path):
    with open(path, encoding="utf-8") as f:
        assert not re.search(r"# *(not run|needs hardware)", f.read())


@pytest.mark.parametrize("page,question", [
    ("performance", "how fast beside Open vSwitch"),
    ("lan", "how do I put two VMs on my LAN"),
    ("security", "what can a guest do to me"),
])
def test_the_first_page_leads_to_what_people_ask_first(page, question):
    with open(f"{ROOT}/doc/index.rst", encoding="utf-8") as f:
        assert re.search(rf":doc:`(\w.* <)?{page}>?`", f.read()), question


@pytest.mark.parametrize("name,wanted", [
    ("bench", ["drain:2", "sustained", "packed", "chain", "indirect"]), ("rates", ["drain:2"])])
def test_plots_show_the_table_of_the_guide(name, wanted, tmp_path):
    """As doc/performance.rst says that they are drawn."""
    table, plot = f"{ROOT}/doc/figures/bench.txt", f"{ROOT}/doc/figures/{name}.svg"
    with open(f"{ROOT}/doc/performance.rst", encoding="utf-8") as f:
        assert f"doc/figures/{name}.svg {' '.join(wanted)}\n" in f.read()
    subprocess.run([f"{ROOT}/bench/plot.py", table, tmp_path / "svg", *wanted], check=True)
    with open(plot, encoding="utf-8") as f:
        assert f.read() == (tmp_path / "svg").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Where a page links to, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        with open(path, encoding="utf-8") as f:
            self.feed(f.read())

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src", "data") and value:
                self.links.append(value)
            elif name == "id":
                self.anchors.add(value)


def test_no_link_of_the_guide_is_broken():
    root = os.path.join(ROOT, "build/doc/html")
    pages = {p: Page(p) for p in glob.glob(f"{root}/*.html")}
    assert len(pages) > 15, "make doc"
    local = 0
    for path, page in pages.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = os.path.normpath(os.path.join(root, urllib.parse.unquote(url.path))) \
                if url.path else path
            assert os.path.exists(target), f"{path}: {link}"
            if url.fragment and target in pages:
                assert url.fragment in pages[target].anchors, f"{path}: {link}"
            local += 1
    assert local > 200
