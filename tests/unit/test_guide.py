# SPDX-License-Identifier: BSD-3-Clause
"""What a user meets in the log or in a counter is found in the guide."""

import glob
import os
import re
import urllib.parse
from html.parser import HTMLParser

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def guide():
    text = " ".join(open(path, encoding="utf-8").read() for path in glob.glob(f"{ROOT}/doc/*.rst"))
    return re.sub(r"\s+", " ", text)


def sources():
    for path in sorted(glob.glob(f"{ROOT}/*.c") + glob.glob(f"{ROOT}/[a-z]*/*.c")):
        if not path.startswith((f"{ROOT}/build/", f"{ROOT}/tests/", f"{ROOT}/bench/",
                                f"{ROOT}/eventfd_link/")):
            with open(path, encoding="utf-8") as f:
                yield f.read()


def messages():
    """The longest fixed piece of each ERR and WARNING line."""
    found = set()
    for text in sources():
        for call in re.findall(r"RTE_LOG\((?:ERR|WARNING), \w+,(.*?)\);", text, re.S):
            words = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call.split('\\n"')[0] + '"'))
            words = re.sub(r" {2,}", " ... ", words)  # a macro between two strings
            pieces = re.split(r"%[-0-9.*]*[a-z]+|\\n|[:(),;]", words)
            longest = max((p.strip() for p in pieces), key=len, default="")
            if len(longest) > 8:
                found.add(longest)
    assert len(found) > 12
    return sorted(found)


def reasons():
    with open(f"{ROOT}/stats/counters.h", encoding="utf-8") as f:
        found = set(re.findall(r'_\(\w+, "?([a-z_]+)"?[,)]', f.read()))
    assert len(found) > 10, found
    return sorted(found)


@pytest.mark.parametrize("reason", reasons())
def test_a_drop_reason_is_explained(reason):
    assert f"``{reason}``" in guide()


@pytest.mark.parametrize("message", messages())
def test_a_warning_is_explained(message):
    assert message in guide()


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
