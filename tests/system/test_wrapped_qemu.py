# SPDX-License-Identifier: BSD-3-Clause
"""qemu-wrap.py before the real QEMU, with the switch's socket in the place of its device."""

import json
import os
import signal
import subprocess

import pytest

from harness import ROOT, Switch, wait_for

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


@pytest.mark.parametrize("nic, memory",
                         [("words", "none"), ("words", "folder"), ("json", "libvirt")])
def test_a_guest_of_todays_qemu(nic, memory, tmp_path):
    """Its firmware asks for an address by DHCP: frames of a guest without an operating system."""
    with Switch() as s:
        env = dict(os.environ, QEMU_WRAP_US_VHOST_PATH=s.sock, PYTHONDONTWRITEBYTECODE="1",
                   QEMU_WRAP_HUGETLBFS_DIR=str(tmp_path) if memory == "folder" else "")
        args = ["-nodefaults", "-display", "none", "-accel", "tcg", "-m", "64", *MEMORY[memory],
                *NIC[nic]]
        with subprocess.Popen([WRAPPER, *args], env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as p:
            try:
                wait_for(lambda: s.has(f"MAC_ADDRESS {MAC} and VLAN_TAG 1000 registered") or
                         p.poll() is not None, 60, "a DHCP request")
                assert p.poll() is None, p.stdout.read()
            finally:
                p.send_signal(signal.SIGTERM)
            assert p.wait(20) == 0
            assert "error" not in p.stdout.read()
        s.wait_guests(0)
