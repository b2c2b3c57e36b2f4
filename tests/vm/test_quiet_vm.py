# SPDX-License-Identifier: BSD-3-Clause
"""A VM that only ever answers: it can be reached whatever happens to it and to the switch.

QUIET=all kills the switch beside VMs of all kinds, at named ports too: system/test_quiet.py has the
same with guests that are no VMs.
"""

import itertools
import os
import time

import pytest

from harness import Switch, cpus, wait_for
from named import Ports
from traffic import ask
from vhostuser import Guest, Listener
from vm import Qmp, Vm
from vmshell import ShellVm

MAC, ADDRESS = "52:54:00:00:00:01", bytes([192, 168, 77, 1])
SCRIPT = "ip addr add 192.168.77.1/24 dev eth0; echo here; sleep 600"


def start_vm(switch, *extra, **kw):
    """Without IPv6 it sends nothing of its own accord."""
    machine = Vm("quiet", SCRIPT, switch.sock, MAC, cpus=str(cpus()[1]), memory=128, extra=extra,
                 append="ipv6.disable=1", **kw)
    try:
        wait_for(lambda: machine.has("here"), 60, "the VM")
        switch.wait_path(0, "running")
    except BaseException:
        print(machine.log())
        machine.kill()
        raise
    return machine


@pytest.mark.parametrize("device", ["", ",packed=on"], ids=["split", "packed"])
def test_stopped_and_continued(tmp_path, device):
    with Switch() as s:
        machine = start_vm(s, "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off", device=device)
        try:
            b = Guest(s.sock, "02:00:00:00:00:0b")
            s.wait_guests(2)
            assert s.guests()["0"]["state"] != "registered"  # not a frame so far
            ask(b, MAC, ADDRESS)
            s.wait_registered(MAC)
            before = s.guests()["0"]
            qmp = Qmp(f"{tmp_path}/qmp")
            for _ in range(3):
                qmp("stop")
                s.wait_path(0, "stopped")
                b.send([b.frame(MAC, b"lost")])
                time.sleep(2)
                qmp("cont")
                s.wait_path(0, "running")
                assert ask(b, MAC, ADDRESS) < 2
            assert s.stats(1)["tx_drop_guest_stopped"] == 3
            after = s.guests()["0"]
            assert (after["mac"], after["vlan"]) == (before["mac"], before["vlan"])
            qmp.close()
            b.close()
        finally:
            machine.kill()
        s.wait_guests(0)


PLUG = ["ip addr add 192.168.77.1/24 dev eth0", "ip link set eth0 up"]
LOAD_AGAIN = [f"echo virtio0 > /sys/bus/virtio/drivers/virtio_net/{what}"
              for what in ("unbind", "bind")]

# client, packed, queue pairs, named port
KINDS = list(itertools.product((False, True), (False, True), (1, 4), (False, True)))


def name_of(kind):
    client, packed, pairs, named = kind
    return ("client" if client else "server") + "-packed" * packed + "-mq" * (pairs > 1) + (
        "-port" * named)


@pytest.mark.parametrize("client,packed,pairs,named", [
    pytest.param(*kind, id=name_of(kind)) for kind in KINDS
    if os.environ.get("QUIET") == "all" or kind[1:] == (False, 1, False)])
def test_the_switch_is_killed_and_started_again(client, packed, pairs, named, tmp_path):
    """The first ARP request after that is answered, by a VM that has not sent since. One with
    packed virtqueues, whose place QEMU has forgotten, loads its driver again before."""
    ports = Ports(tmp_path, **{n: f"vlan=10 mode={('server', 'client')[client]}"
                               for n in ("a", "b")})
    paths = [ports.sock("a"), ports.sock("b" if client or named else "a")]
    s = Switch(*(ports.args() if named else ["--client"] * client + [
        a for path in dict.fromkeys(paths) for a in ("--socket-file", path)]))
    vm_id = 128 * named
    listener = Listener(paths[1]) if client else None
    machine = ShellVm("quiet", (paths[0], MAC), smp=pairs,
                      chardev=",server=on,wait=off" if client else ",reconnect=1",
                      netdev=f",queues={pairs}" if pairs > 1 else "",
                      device=",packed=on" * packed + ",mq=on" * (pairs > 1))

    def neighbour():
        mac = "02:00:00:00:00:0b"
        return listener.guest(mac) if client else Guest(paths[1], mac)

    def is_known():
        rows = s.telemetry("/vhost_switch/fdb").values()
        return MAC in [row["mac"] if named else row for row in rows]
    try:
        machine.wait_ready()
        for turn in range(3):
            s.wait_guests(1)
            if turn == 0 or packed:
                machine.run(*LOAD_AGAIN[:2 * turn], *PLUG)
            s.wait_path(vm_id, "running")
            b = neighbour()
            s.wait_guests(2)
            # Linux notes a link that has come back once a second at most
            machine.run("until grep -q up /sys/class/net/eth0/operstate; do sleep 0.1; done")
            assert not is_known()  # not a frame so far
            ask(b, MAC, ADDRESS, 30)
            assert is_known()
            if turn < 2:
                s.proc.kill()
                s.proc.wait()
                s.lines.clear()
                b.close()
                s.start()
        b.close()
    except BaseException:
        print(machine.log(), s.log())
        raise
    finally:
        machine.kill()
        if listener:
            listener.close()
        s.stop()
