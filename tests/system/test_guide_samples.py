# SPDX-License-Identifier: BSD-3-Clause
"""The guide's answers of telemetry have the keys, and the kinds of values, of live ones."""

import json
import os
import re

import pytest

from harness import ROOT, Switch
from named import Ports
from vhostuser import Guest

NAMED = ("ports", "addresses")


def samples(page="statistics"):
    """The JSON blocks of a page, by the command that they answer."""
    with open(os.path.join(ROOT, f"doc/{page}.rst"), encoding="utf-8") as f:
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


@pytest.fixture(scope="module")
def named_switch(tmp_path_factory):
    """One with named ports: an access port, a trunk that nobody is connected to, and static."""
    ports = Ports(tmp_path_factory.mktemp("ports"), web="vlan=10", router="trunk=10;20;100-199",
                  plain="mac=02:00:00:00:00:aa")
    with Switch(*ports.args(), "--socket-file", ports.sock("old")) as s:
        guests = [ports.guest("web", "52:54:00:00:00:01"),
                  Guest(ports.sock("old"), "52:54:00:00:00:09")]
        s.wait_guests(2)
        for g in guests:
            g.announce()
        s.wait_log("MAC_ADDRESS 52:54:00:00:00:09 and VLAN_TAG")
        yield s
        for g in guests:
            g.close()


def test_there_are_samples_of_every_command(switch):
    """And the man page names each, and no other."""
    ours = [c for c in switch.telemetry("/") if c.startswith("/vhost_switch/")]
    found = set(samples()).union(*(samples(page) for page in NAMED))
    assert sorted(found) == sorted(ours)
    with open(os.path.join(ROOT, "doc/man/vhost-switch.rst"), encoding="utf-8") as f:
        assert sorted(re.findall(r"\*(/vhost_switch/\w+)\*", f.read())) == sorted(ours)


@pytest.mark.parametrize("command", samples())
def test_a_sample_is_like_a_live_answer(switch, command):
    parameter = ",0" if command == "/vhost_switch/stats" else ""
    assert shape(samples()[command]) == shape(switch.telemetry(command + parameter))


@pytest.mark.parametrize("page,command", [(p, c) for p in NAMED for c in samples(p)])
def test_a_sample_of_named_ports_is_like_a_live_answer(named_switch, page, command):
    """Of entries the kinds, since addresses come in no order, and a sample leaves ports out."""
    kinds = [{json.dumps(shape(x), sort_keys=True) for x in answer.values()}
             for answer in (samples(page)[command], named_switch.telemetry(command))]
    assert kinds[0] == kinds[1]
