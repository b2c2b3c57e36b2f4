# SPDX-License-Identifier: BSD-3-Clause
"""Linux VMs whose addresses change, are many, or move from one to another.

Three of them, for all tests here: x and y have two cards at named ports and one at the historical
socket, z has one of each. Each test has addresses of its own.
"""

import time

import pytest

from harness import Switch
from named import Ports, reload
from vmshell import Pinging, ShellVm, begin_pings, reached

ROUTER = "00:00:5e:00:01:07"


class Lan:
    def __init__(self, directory):
        self.ports = Ports(directory, x="vlan=10", y="vlan=10", z="vlan=10", x2="vlan=10")
        self.switch = Switch(*self.ports.write(), "--socket-file", f"{directory}/old")
        self.vms = []
        for n, (name, more) in enumerate((("x", ["x2"]), ("y", []), ("z", [])), 1):
            cards = [(self.ports.sock(port), f"52:54:00:00:{i:02x}:{n:02x}")
                     for i, port in enumerate([name, "old", *more])]
            self.vms.append(ShellVm(f"addresses-{name}", *cards,
                                    kinds=["bridge", "veth", "macvlan", "bonding"]))
        for machine in self.vms:
            machine.wait_ready()
        self.x, self.y, self.z = self.vms

    def ports_of(self, mac):
        return [r["port"] for r in self.switch.telemetry("/vhost_switch/fdb").values()
                if isinstance(r, dict) and r["mac"] == mac]

    def close(self):
        for machine in self.vms:
            machine.kill()
        self.switch.stop()


@pytest.fixture(scope="module", name="lan")
def a_lan(tmp_path_factory):
    lan = None
    try:
        lan = Lan(tmp_path_factory.mktemp("lan"))
        yield lan
    finally:
        if lan:
            lan.close()


def plug(net, **devices):
    """Addresses 10.0.net.1 and so on at a device of each VM."""
    for n, (machine, device) in enumerate(devices.values(), 1):
        machine.run(f"ip addr flush dev {device}", f"ip addr add 10.0.{net}.{n}/24 dev {device}",
                    f"ip link set {device} up")


@pytest.mark.parametrize("place,device", [("port", "eth0"), ("socket", "eth1")])
def test_a_mac_is_changed(lan, place, device):
    """Ping goes on in either direction, within 2 s and what ARP takes."""
    net = 1 + int(device[-1])
    plug(net, x=(lan.x, device), y=(lan.y, device))
    new = f"02:00:00:00:0{net}:99"
    begin_pings(lan.y, [f"10.0.{net}.1"])
    assert reached(lan.y) == {f"10.0.{net}.1"}
    from_y = Pinging(lan.y, f"10.0.{net}.1", 6)
    time.sleep(2)
    # what makes the others forget the old one is what an operator's tools send
    lan.x.run(f"ip link set {device} address {new}", f"ip neigh flush dev {device}",
              f"for i in 1 2 3; do arping -U -c 1 -I {device} 10.0.{net}.1; sleep 1; done")
    gap = from_y.longest()
    print(f"{place}: without an answer for {gap} s")
    assert gap <= 3.2
    from_x = Pinging(lan.x, f"10.0.{net}.2", 1)
    assert from_x.longest() <= 0.2
    if place == "port":
        assert lan.ports_of(new) == ["x"]
    else:
        assert new in lan.switch.telemetry("/vhost_switch/fdb").values() or any(
            g["mac"] == new for g in lan.switch.guests().values())


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_addresses_within_a_vm(lan, kind):
    """Two namespaces and the VM itself, all reached from another VM, and they reach it."""
    plug(3, x=(lan.x, "eth0"), y=(lan.y, "eth0"))
    macs = {n: f"02:00:00:0{len(kind)}:00:{n}" for n in (11, 12)}
    lines = [f"ip netns add n{n}" for n in macs]
    if kind == "bridge":
        lines += ["ip link add br0 type bridge mcast_snooping 0", "ip link set eth0 master br0",
                  "ip addr flush dev eth0", "ip addr add 10.0.3.1/24 dev br0",
                  "ip link set br0 up"]
        lines += [line for n in macs for line in (
            f"ip link add h{n} type veth peer name e{n} netns n{n}",
            f"ip link set h{n} master br0 up")]
    else:
        lines += [f"ip link add e{n} link eth0 netns n{n} type macvlan mode bridge" for n in macs]
    lines += [line for n, mac in macs.items() for line in (
        f"ip -n n{n} link set e{n} address {mac}", f"ip -n n{n} addr add 10.0.3.{n}/24 dev e{n}",
        f"ip -n n{n} link set e{n} up")]
    lan.x.run(*lines)
    everyone = {f"10.0.3.{n}" for n in (1, *macs)}
    begin_pings(lan.y, everyone)
    assert reached(lan.y) == everyone
    for n, mac in macs.items():
        begin_pings(lan.x, ["10.0.3.2"], f"n{n}")
        assert reached(lan.x) == {"10.0.3.2"}
        assert lan.ports_of(mac) == ["x"]
    lan.x.run(*(f"ip netns del n{n}" for n in macs),
              *(["ip link del br0"] if kind == "bridge" else []))


def test_a_virtual_router_moves_there_and_back(lan):
    """Its MAC and address, which it answers from, leave one VM; another says so as VRRP does."""
    plug(4, z=(lan.z, "eth0"))

    def take(machine):
        # the first ones are refused: its port sent from it less than a second ago
        machine.run("echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore",  # or eth0 answers too
                    "ip addr flush dev eth0", "ip link set eth0 up",
                    "ip link add vr link eth0 type macvlan mode bridge",
                    f"ip link set vr address {ROUTER}", "ip link set vr up",
                    "ip addr add 10.0.4.254/24 dev vr",
                    "for i in 1 2 3 4; do arping -U -c 1 -I vr 10.0.4.254; sleep 0.4; done")
    take(lan.x)
    begin_pings(lan.z, ["10.0.4.254"])
    assert reached(lan.z) == {"10.0.4.254"}
    assert f"lladdr {ROUTER}" in lan.z.run("ip neigh show 10.0.4.254")
    for old, new, port in ((lan.x, lan.y, "y"), (lan.y, lan.x, "x")):
        pinging = Pinging(lan.z, "10.0.4.254", 5)
        time.sleep(1)
        old.run("ip link del vr")
        take(new)
        gap = pinging.longest()
        print(f"router at {port}: without an answer for {gap} s")
        assert gap <= 2
        assert lan.ports_of(ROUTER) == [port]
    lan.x.run("ip link del vr")


def test_a_bond_changes_its_card_when_a_port_goes_down(lan):
    """Active-backup, watched by ARP: the MAC moves to the other port, and back."""
    plug(5, x=(lan.x, "eth0"), z=(lan.z, "eth0"))
    lan.x.run("ip addr flush dev eth0", "ip link set eth0 down", "ip link set eth2 down",
              "ip link add bond7 type bond mode active-backup arp_interval 200 arp_ip_target "
              "10.0.5.2 arp_validate none",
              "ip link set eth0 master bond7", "ip link set eth2 master bond7",
              "ip link set bond7 up", "ip addr add 10.0.5.1/24 dev bond7")
    mac = lan.x.run("cat /sys/class/net/bond7/address").strip()
    begin_pings(lan.z, ["10.0.5.1"])
    assert reached(lan.z) == {"10.0.5.1"}
    for _ in range(2):
        active = lan.x.run("cat /sys/class/net/bond7/bonding/active_slave").strip()
        port, other = ("x", "x2") if active == "eth0" else ("x2", "x")
        assert lan.ports_of(mac) == [port]
        pinging = Pinging(lan.z, "10.0.5.1", 5)
        time.sleep(1)
        lan.ports.ports.update({port: "vlan=10 link=down"})
        reload(lan.switch, lan.ports, "0 ports added, 0 removed, 1 changed")
        gap = pinging.longest()
        print(f"without an answer for {gap} s")
        assert gap <= 4
        assert lan.ports_of(mac) == [other]
        lan.ports.ports.update({port: "vlan=10"})
        reload(lan.switch, lan.ports, "0 ports added, 0 removed, 1 changed")
        time.sleep(1)
