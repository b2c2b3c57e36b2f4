# SPDX-License-Identifier: BSD-3-Clause
"""Words that the program does not use, and what it says instead."""

import re

import pytest

import tree

# In what people read: log lines, refusals, error lines, telemetry.
INSTEAD = {
    r"\bbehind\b": "after",
    r"\bis no\b": "is not a",
    r"\bthere is no such\b": "unknown, does not exist, with the name that was given",
    r"\btakes\b(?! too long\b)": "must be, accepts, needs",
    r"\bas ever\b": "still, or nothing",
    r"\ball the same\b": "even so, or nothing",
    r"\banew\b": "again",
    r"\bafresh\b": "again",
    r"\bfor ever\b": "without end, until ...",
    r"\bswitched off\b": "disabled",
    r"\bcut off\b": "truncated",
}

# Anywhere, in names and comments too, also as a part of a longer name.
NAMES = {
    "direct_bar": "no_direct_reason",
    "lend": "release",
    "patience": "timeout",
    "sift": "validate",
    "ordinary": "mbuf path; fallback",
    "afresh": "again; retry_reset",
    "anew": "again",
    "pieces_pool": "indirect pool",
    "give_up_at": "deadline",
}
A_NAME = re.compile(rf"(?<![a-z])({'|'.join(NAMES)})(?![a-z])", re.I)

PAGES = tree.found("README.rst", "doc/**/*.rst", "tests/**/*.rst")
SOURCES = [p for p in tree.program() + tree.others() if p != "tests/unit/test_words.py"]


@pytest.mark.parametrize("path", [p for p in tree.program() if p.endswith(".c")])
def test_sentences(path):
    wrong = [f'{path}:{line}: "{text}": say {better}' for line, text in tree.literals(path)
             for worse, better in INSTEAD.items() if re.search(worse, text, re.I)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", SOURCES + PAGES)
def test_names(path):
    wrong = [f"{path}:{n}: {m[0]}: say {NAMES[m[0].lower()]}"
             for n, line in enumerate(tree.read(path).split("\n"), 1)
             for m in A_NAME.finditer(line)]
    assert not wrong, "\n".join(wrong)


def test_literals_are_found_whole(tmp_path, monkeypatch):
    """As the compiler joins them, and nothing of comments, characters and includes."""
    monkeypatch.setattr(tree, "ROOT", str(tmp_path))
    (tmp_path / "x.c").write_text('#include "behind.h"\n/* "is no */ c = \'"\'; // "takes\n'
                                  'f("there is"\n\t" no such \\"thing\\"", "b" X "c");\n')
    assert list(tree.literals("x.c")) == [
        (3, 'there is no such \\"thing\\"'), (4, "b"), (4, "c")]
