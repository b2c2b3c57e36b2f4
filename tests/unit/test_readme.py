# SPDX-License-Identifier: BSD-3-Clause
"""tests/README.rst knows every source of the program and every test."""

import fnmatch
import os
import re

import pytest

import tree

README = "tests/README.rst"
SOURCES = tree.program() + tree.found("qemu-wrap.py", "packaging/*", "eventfd_link/Makefile")
TESTS = tree.found("tests/unit/test_*.*", "tests/unit/fuzz_*.c", "tests/system/test_*.*",
                   "tests/vm/test_*.py", "tests/vm/inside/*.py")
TEST = re.compile(r"(?:unit|system|vm)/[\w/]+\.(?:c|py)(?:::\w+)?")


def tables():
    """Rows of the two tables: (sources, tests) as lists of what stands between ``."""
    found = []
    for table in tree.read(README).split(".. list-table::")[1:]:
        rows = re.findall(r"(?m)^   \* - (.*(?:\n       .*)*)\n     - (.*(?:\n       .*)*)", table)
        found.append([tuple(re.findall(r"``(\S+?)``", cell) for cell in row) for row in rows[1:]])
    assert len(found) == 2 and all(found)
    return found


ROWS, MORE = tables()


def covers(source, path):
    return path.startswith(source) if source.endswith("/") else fnmatch.fnmatchcase(path, source)


@pytest.mark.parametrize("path", SOURCES)
def test_a_source_has_one_row(path):
    rows = [row for row in ROWS if any(covers(source, path) for source in row[0])]
    assert rows, f"{README}: add a row for {path}, with the tests that fail if it breaks"
    assert len(rows) == 1, f"{README}: {path} is in {len(rows)} rows, leave one of {rows}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row[0]))
def test_a_row_is_about_sources_and_names_tests(row):
    for source in row[0]:
        assert source.rstrip("/") != "" and any(covers(source, path) for path in SOURCES), \
            f"{README}: take out {source}, which is not there"
    assert row[0] and row[1], f"{README}: {row} has an empty cell"


@pytest.mark.parametrize("test", sorted({test for row in ROWS + MORE for test in row[1]}))
def test_a_test_that_is_named_exists(test):
    assert TEST.fullmatch(test), f"{README}: {test} is not a test of unit, system or vm"
    path, _, name = test.partition("::")
    assert os.path.exists(os.path.join(tree.ROOT, "tests", path)), f"{README}: no {path}"
    if name:
        assert re.search(rf"(?m)^(?:def )?{name}\(", tree.read(f"tests/{path}")), \
            f"{README}: {path} has no {name}"


@pytest.mark.parametrize("path", TESTS)
def test_a_test_is_named(path):
    named = {test.partition("::")[0] for row in ROWS + MORE for test in row[1]}
    assert path.removeprefix("tests/") in named, \
        f"{README}: name {path} in the row of what it tests"
