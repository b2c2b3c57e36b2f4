# SPDX-License-Identifier: BSD-3-Clause
"""The guide's answers of telemetry have the keys, and the kinds of values, of live ones."""

import json
import os
import re

import pytest

from harness import ROOT, Switch
from vhostuser import Guest

PAGE = os.path.join(ROOT, "doc/statistics.rst")


def samples():
    """The JSON blocks of the page, by the command that they answer."""
    with open(PAGE, encoding="utf-8") as f:
        blocks = re.findall(r"^\.\. code-block:: json\n\n((?:    .*\n|\n)+)", f.read(), re.M)
    found = {}
    for block in blocks:
        (command, answer), = json.loads(block).items()
        found[command] = answer
    return found


def shape(value):
    """The same with types for values; device ids are keys like any other."""
    if isinstance(value, dict):
        return {key: shape(x) for key, x in value.items()}
    if isinstance(value, list):
        return [shape(x) for x in value[:1]]
    return type(value).__name__


@pytest.fixture(scope="module")
def switch():
    """One as the samples have it: an uplink, a mirror port, two guests that have sent."""
    with Switch("--mirror-port", "0x2", port="0x1", vdev=["net_null0", "net_null1"]) as s:
        guests = [Guest(s.sock, f"52:54:00:00:00:0{i}") for i in (1, 2)]
        s.wait_guests(2)
        for g in guests:
            g.announce()
            s.wait_log(f"MAC_ADDRESS {g.mac.hex(':')} and VLAN_TAG")
        yield s
        for g in guests:
            g.close()


def test_there_are_samples_of_every_command(switch):
    """And the man page names each, and no other."""
    ours = [c for c in switch.telemetry("/") if c.startswith("/vhost_switch/")]
    assert sorted(samples()) == sorted(ours)
    with open(os.path.join(ROOT, "doc/man/vhost-switch.rst"), encoding="utf-8") as f:
        assert sorted(re.findall(r"\*(/vhost_switch/\w+)\*", f.read())) == sorted(ours)


@pytest.mark.parametrize("command", samples())
def test_a_sample_is_like_a_live_answer(switch, command):
    parameter = ",0" if command == "/vhost_switch/stats" else ""
    assert shape(samples()[command]) == shape(switch.telemetry(command + parameter))
