# SPDX-License-Identifier: BSD-3-Clause
"""The order of the program's rooms, and how large its files, functions and lines may become."""

import re

import pytest

import tree

# Leaves first: a room may include what stands before it, and itself. A directory is a room, and so
# is a file at the top with its header.
ROOMS = ["main.h", "thread", "virtio_net_defs.h", "log", "process", "cli", "stats", "vhost",
         "uplink", "port", "switch", "control", "main.c"]
# A room beside them, with the only things it may include but itself.
CUSE = ["main.h", "thread", "virtio_net_defs.h", "log", "process",
        "vhost/vhost_user.h", "vhost/fds.h",
        "eventfd_link/eventfd_link.h"]
KERNEL_MODULE = "eventfd_link"

FILE_MAX, FUNCTION_MAX, COLUMNS_MAX = 600, 60, 100


def room(path):
    name = path.split("/")[0]
    return "thread" if name in ("thread.c", "thread.h") else name


def may_include(path):
    """Rooms and single headers."""
    here = room(path)
    if here == KERNEL_MODULE:
        return [here]
    if here == "cuse":
        return [here, *CUSE]
    before = ROOMS[:ROOMS.index(here) + 1]
    return before + ["cuse"] if here == "main.c" else before


def test_every_file_is_in_a_room():
    rooms = {*ROOMS, "cuse", KERNEL_MODULE}
    assert [p for p in tree.program() if room(p) not in rooms] == []


@pytest.mark.parametrize("path", tree.program())
def test_includes_only_what_stands_before_it(path):
    wrong = []
    for header in re.findall(r'(?m)^#\s*include "([^"]+)"', tree.read(path)):
        if "/" not in header and "/" in path and room(header) not in ROOMS:
            header = f"{room(path)}/{header}"  # a neighbour
        if not {header, room(header)} & set(may_include(path)):
            wrong.append(header)
    assert wrong == [], f"{path} is in {room(path)}, which may include {may_include(path)}"


@pytest.mark.parametrize("path", tree.program())
def test_files_and_functions_are_short(path):
    lines = tree.read(path).splitlines()
    assert len(lines) <= FILE_MAX, f"{path} has {len(lines)} lines"
    begin = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            begin = number
        elif line.startswith("}") and begin:
            assert number + 1 - begin <= FUNCTION_MAX, f"the function at {path}:{begin}"
            begin = None


@pytest.mark.parametrize("path", tree.program() + tree.others())
def test_lines_are_short(path):
    """With tabs of 8."""
    lines = tree.read(path).split("\n")
    wrong = [f"{path}:{n}: {len(line.expandtabs(8))} columns" for n, line in enumerate(lines, 1)
             if len(line.expandtabs(8)) > COLUMNS_MAX]
    assert not wrong, "\n".join(wrong)
