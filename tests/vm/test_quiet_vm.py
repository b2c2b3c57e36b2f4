# SPDX-License-Identifier: BSD-3-Clause
"""A VM that only ever answers: it can be reached whatever happens to it and to the switch."""

import os
import socket
import time

import pytest

from harness import Switch, cpus, wait_for
from traffic import ask
from vhostuser import Guest
from vm import Qmp, Vm

MAC, ADDRESS = "52:54:00:00:00:01", bytes([192, 168, 77, 1])
SCRIPT = "ip addr add 192.168.77.1/24 dev eth0; echo here; sleep 600"


def start_vm(switch, *extra, chardev="", device=""):
    """Without IPv6 it sends nothing of its own accord."""
    machine = Vm("quiet", SCRIPT, switch.sock, MAC, cpus=str(cpus()[1]), memory=128, extra=extra,
                 chardev=chardev, device=device, append="ipv6.disable=1")
    try:
        wait_for(lambda: machine.has("here"), 60, "the VM")
        switch.wait_path(len(switch.guests()) - 1, "running")
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


def neighbour(switch, client):
    """Another guest; with client it serves its socket, as QEMU does."""
    mac = "02:00:00:00:00:0b"
    if not client:
        return Guest(switch.sock, mac)
    path = os.path.join(switch.dir, "other")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)
        connection = listener.accept()[0]
    os.unlink(path)
    return Guest(None, mac, sock=connection)


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_the_switch_is_killed_and_started_again(client):
    """The first ARP request after that is answered, by a VM that has not sent since."""
    s = Switch(*(["--client", "--socket-file", "other"] if client else []),
               "--socket-file", "vhost-net")
    machine = start_vm(s, chardev=",server=on,wait=off" if client else ",reconnect=1")
    try:
        for _ in range(2):
            b = neighbour(s, client)
            s.wait_guests(2)
            ask(b, MAC, ADDRESS)
            s.wait_registered(MAC)
            s.proc.kill()
            s.proc.wait()
            s.lines.clear()
            b.close()
            s.start()
            s.wait_guests(1)
            s.wait_path(0, "running")
        b = neighbour(s, client)
        s.wait_guests(2)
        assert {g["state"] for g in s.guests().values()} == {"ready"}
        assert ask(b, MAC, ADDRESS) < 2
        b.close()
    finally:
        machine.kill()
        if client:
            os.unlink(s.sock)
        s.stop()
