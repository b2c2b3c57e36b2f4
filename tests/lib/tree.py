# SPDX-License-Identifier: BSD-3-Clause
"""The files of this tree, for tests that read sources."""

import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NOT_THE_PROGRAM = ("build", "tests", "bench", "doc")


def found(*patterns):
    """Paths below ROOT that fit one of the patterns, in order."""
    return sorted({p for pattern in patterns for p in glob.glob(pattern, root_dir=ROOT,
                                                                recursive=True)})


def program():
    """C sources and headers of the program and of its kernel module."""
    return [p for p in found("*.[ch]", "*/*.[ch]") if p.split("/")[0] not in NOT_THE_PROGRAM]


def others():
    """C and Python of tests and bench, and the wrapper."""
    return found("*.py", "tests/**/*.[ch]", "tests/**/*.py", "bench/*.[ch]", "bench/*.py")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


# A comment, a character, or strings that the compiler makes one of.
C_TOKEN = re.compile(r"""/\*.*?\*/|//[^\n]*|'(?:[^'\\\n]|\\.)+'
                     |(?P<text>"(?:[^"\\\n]|\\.)*"(?:\s*"(?:[^"\\\n]|\\.)*")*)""", re.S | re.X)


def literals(path):
    """(line, text) of each string literal of a C source, in one piece if it stands in several."""
    text = re.sub(r"(?m)^#\s*include\b.*$", "", read(path))
    for m in C_TOKEN.finditer(text):
        if m["text"]:
            pieces = re.findall(r'"((?:[^"\\\n]|\\.)*)"', m["text"])
            yield text.count("\n", 0, m.start()) + 1, "".join(pieces)
