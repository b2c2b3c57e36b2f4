# SPDX-License-Identifier: BSD-3-Clause
"""QEMU as the guide says to start it, and by qemu-wrap.py.

The guest is QEMU's firmware, which asks for an address by DHCP: frames without an operating system.
The wrapper has the switch's socket in the place of its device.
"""

import json
import os
import re
import shlex
import signal
import subprocess
from contextlib import nullcontext

import pytest

from harness import ROOT, Switch, hugepages, reserved_hugepages, wait_for

WRAPPER = os.path.join(ROOT, "qemu-wrap.py")
MAC = "52:54:00:00:00:0e"
# vectors=0: QEMU 7.2 under TCG fails when virtio-net over vhost uses MSI-X
DEVICE = {"driver": "virtio-net-pci", "netdev": "n", "mac": MAC, "vectors": 0, "bootindex": 1}
NIC = {
    "words": ["-netdev", "tap,id=n,ifname=unused,vhost=on",
              "-device", ",".join(f"{k}={v}" for k, v in DEVICE.items()).removeprefix("driver=")],
    # as libvirt writes it
    "json": ["-netdev", '{"type":"tap","fd":"31","vhost":true,"vhostfd":"33","id":"n"}',
             "-device", json.dumps(DEVICE)],
}
MEMORY = {
    "none": [],
    "folder": [],
    "libvirt": ["-machine", "pc,memory-backend=pc.ram",
                "-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":67108864}'],
}


def run_until_heard(switch, args, macs, env=None):
    """Start QEMU and wait for a frame of each of its cards."""
    with subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as p:
        try:
            wait_for(lambda: all(switch.has(f"MAC_ADDRESS {m} and VLAN_TAG") for m in macs) or
                     p.poll() is not None, 120, f"a DHCP request of each of {macs}")
            assert p.poll() is None, p.stdout.read()
        finally:
            p.send_signal(signal.SIGTERM)
        assert p.wait(20) == 0
        assert "error" not in p.stdout.read()
    switch.wait_guests(0)


@pytest.mark.parametrize("nic, memory",
                         [("words", "none"), ("words", "folder"), ("json", "libvirt")])
def test_a_wrapped_guest(nic, memory, tmp_path):
    with Switch() as s:
        env = dict(os.environ, QEMU_WRAP_US_VHOST_PATH=s.sock, PYTHONDONTWRITEBYTECODE="1",
                   QEMU_WRAP_HUGETLBFS_DIR=str(tmp_path) if memory == "folder" else "")
        run_until_heard(s, [WRAPPER, "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "64",
                            *MEMORY[memory], *NIC[nic]], [MAC], env)


def commands():
    """The commands of the guide that start QEMU, as arguments, with the environment before them."""
    found = []
    for page in ("qemu", "qemu-wrap"):
        with open(os.path.join(ROOT, f"doc/{page}.rst"), encoding="utf-8") as f:
            text = f.read()
        for block in re.findall(r"^    ((?:\w+=\S+ )?qemu\S+ [^\\\n]*(?:\\\n[^\\\n]*)+)", text,
                                re.M):
            found.append(pytest.param(shlex.split(block.replace("\\\n", "")),
                                      id=f"{page}-{len(found)}"))
    assert len(found) == 7
    return found


def small(args, path):
    """Such a command for a machine without KVM, disk and memory to spare."""
    out = []
    for option, value in zip(args[::2], args[1::2]):
        if option != "-drive":
            out += [option, value]
    text = "\n".join(out)
    for what, by in (("accel\nkvm", "accel\ntcg"), ("accel=kvm", "accel=tcg"),
                     ("cpu\nhost", "cpu\nmax"), ("-m\n1G", "-m\n64M"), ("size=1G", "size=64M")):
        text = text.replace(what, by)
    text = re.sub(r"path=/run/[^,\n]+", f"path={path}", text)
    return [*text.split("\n"), "-nodefaults", "-display", "none", "-boot", "n"]


@pytest.mark.parametrize("args", commands())
def test_commands_of_the_guide(args, tmp_path):
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    if "=" in args[0]:
        args = args[1:]
    wants_pages = any("hugetlb=on" in a for a in args)
    with reserved_hugepages(64) if wants_pages else nullcontext():
        if wants_pages and hugepages() < 32:
            pytest.skip("no hugepages to be had")
        server = str(tmp_path / "guest1")
        client = any("server=on" in a for a in args)
        with Switch(*(("--client", "--socket-file", server) if client else ())) as s:
            env["QEMU_WRAP_US_VHOST_PATH"] = s.sock
            program = WRAPPER if args[0] == "qemu-wrap.py" else args[0]
            args = small(args[1:], server if client else s.sock)
            macs = re.findall(r"mac=([0-9a-f:]+)", " ".join(args)) or ["52:54:00:12:34:56"]
            run_until_heard(s, [program, *args], macs, env)
