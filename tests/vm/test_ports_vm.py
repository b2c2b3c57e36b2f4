# SPDX-License-Identifier: BSD-3-Clause
"""Linux VMs at named ports: who reaches whom, restarts of the switch, a limited TCP flow.

The switch is killed twice beside three guests, one of which is a VM; RESTARTS=10 for more often,
beside eight, and QEMUS=8 for as many VMs. WIRES=af_packet,tap,82599 for more wires.
"""

import os
import random
import socket
import struct
import time

import pytest

from harness import Switch, Wire, cpus, wait_for
from named import Ports, reload
from traffic import ask, consistent
from vhostuser import Listener
from vm import Qmp, Vm
from vmshell import ShellVm, begin_pings, reached

RESTARTS = int(os.environ.get("RESTARTS", "2"))
QEMUS = int(os.environ.get("QEMUS", "1"))
WIRES = os.environ.get("WIRES", "af_packet").split(",")
MAC, ADDRESS = "52:54:00:00:00:01", bytes([192, 168, 77, 1])
QUIET = "ip addr add {}/24 dev eth0; echo here; sleep 3600"
OUTSIDE, OUTSIDE_IP = bytes.fromhex("02000000ee01"), bytes([10, 0, 0, 99])

# a bridge that filters VLANs, with a namespace at each of two access ports
BRIDGE = ["ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0 mcast_snooping 0",
          "ip link set eth0 master br0", "ip link set br0 up", "ip link set eth0 up",
          *(line.format(vlan=vlan) for vlan in (10, 20) for line in (
              "ip netns add ns{vlan}",
              "ip link add h{vlan} type veth peer name e{vlan} netns ns{vlan}",
              "ip link set h{vlan} master br0 up",
              "bridge vlan add dev eth0 vid {vlan}",
              "bridge vlan add dev h{vlan} vid {vlan} pvid untagged",
              "ip -n ns{vlan} addr add 10.0.0.{vlan}/24 dev e{vlan}",
              "ip -n ns{vlan} link set e{vlan} up", "ip -n ns{vlan} link set lo up"))]

# an interface for each VLAN, in a namespace
TAGS = ["ip link set eth0 up",
        *(line.format(vlan=vlan, n=vlan + 1) for vlan in (10, 20) for line in (
            "ip netns add ns{vlan}", "ip link add link eth0 name v{vlan} type vlan id {vlan}",
            "ip link set v{vlan} netns ns{vlan}",
            "ip -n ns{vlan} addr add 10.0.0.{n}/24 dev v{vlan}",
            "ip -n ns{vlan} link set v{vlan} up", "ip -n ns{vlan} link set lo up"))]


def arp(wire, vlan, others, n, timeout=60):
    """
    Ask for 10.0.0.n from outside, with each of the tags of others and then with vlan; returns the
    tags of all answers.
    """
    for tag in (*others, vlan):
        wire.send(b"\xff" * 6 + OUTSIDE +
                  (struct.pack(">HH", 0x8100, tag) if tag else b"") +
                  struct.pack(">HHHBBH", 0x806, 1, 0x800, 6, 4, 1) + OUTSIDE + OUTSIDE_IP +
                  bytes(6) + bytes([10, 0, 0, n]) + bytes(18))
    end, tags = time.monotonic() + timeout, []
    while time.monotonic() < end:
        wire.sock.settimeout(0.1)
        try:
            frame, control, _, addr = wire.sock.recvmsg(2048, 256)
        except TimeoutError:
            if vlan in tags:
                break  # and no other
            continue
        if addr[2] != socket.PACKET_OUTGOING and frame[:6] == OUTSIDE and frame[31] == n:
            tags.append(next((struct.unpack_from("=H", data, 16)[0]
                              for level, kind, data in control
                              if (level, kind) == (263, 8) and data[0] & 0x10), 0))
    return tags


@pytest.mark.parametrize("kind", WIRES)
def test_who_can_ping_whom(kind, tmp_path):
    """Two VMs in VLAN 10, one in VLAN 20, a Linux bridge and VLAN interfaces at trunks, and what is
    outside."""
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", c="vlan=20", t="trunk=10;20",
                  v="trunk=10;20")
    # last part of each address, and its VLAN
    places = {1: 10, 2: 10, 3: 20, 10: 10, 20: 20, 11: 10, 21: 20}
    machines = []
    with Wire(kind) as wire, wire.switch(*ports.args()) as s:
        try:
            for n, name in enumerate(ports.ports, 1):
                machines.append(ShellVm(name, (ports.sock(name), f"52:54:00:00:00:{n:02x}"),
                                        kinds={4: ["bridge", "veth"], 5: ["8021q"]}.get(n, [])))
            for n, machine in enumerate(machines, 1):
                machine.wait_ready()
                machine.run(*({4: BRIDGE, 5: TAGS}.get(n) or [
                    f"ip addr add 10.0.0.{n}/24 dev eth0", "ip link set eth0 up"]))
            wire.open()
            bridge, tags = machines[3:]
            turns = [{n: (machines[n - 1], None) for n in (1, 2, 3)} | {
                10: (bridge, "ns10"), 11: (tags, "ns10")}, {20: (bridge, "ns20"),
                                                            21: (tags, "ns20")}]
            for turn in turns:
                for machine, namespace in turn.values():
                    begin_pings(machine, [f"10.0.0.{n}" for n in places], namespace)
                for n, (machine, namespace) in turn.items():
                    want = {f"10.0.0.{m}" for m in places if places[m] == places[n]}
                    got = reached(machine)
                    for _ in range(5):  # again only if this machine is too busy
                        if want - got:
                            begin_pings(machine, want - got, namespace)
                            got |= reached(machine)
                    assert got == want, n
            for n, vlan in places.items():
                assert arp(wire, vlan, {10, 20, 30, 0} - {vlan}, n) == [vlan], n
            for n in range(len(machines)):
                st = consistent(s.stats(128 + n))
                assert st["tx_drop_vlan_not_allowed"] == st["tx_drop_mac_taken"] == 0
        except BaseException:
            for machine in machines:
                print(machine.log())
            raise
        finally:
            for machine in machines:
                machine.kill()


def quiet_vm(name, sock, *extra, chardev="", mac=MAC, address="192.168.77.1"):
    """Without IPv6 it sends nothing of its own accord."""
    return Vm(name, QUIET.format(address), sock, mac, cpus=str(cpus()[1]), memory=128, extra=extra,
              chardev=chardev, append="ipv6.disable=1")


def test_stopped_and_continued_at_a_port(tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10")
    with Switch(*ports.args()) as s:
        machine = quiet_vm("quietport", ports.sock("a"), "-qmp",
                           f"unix:{tmp_path}/qmp,server=on,wait=off")
        try:
            wait_for(lambda: machine.has("here"), 90, "the VM")
            b = ports.guest("b")
            s.wait_guests(2)
            qmp = Qmp(f"{tmp_path}/qmp")
            for turn in range(2):
                qmp("stop")
                s.wait_path(128, "stopped")
                time.sleep(2)
                qmp("cont")
                s.wait_path(128, "running")
                assert ask(b, MAC, ADDRESS) < 2
                assert [(r["port"], r["domain"]) for r in s.telemetry("/vhost_switch/fdb").values()
                        if r["mac"] == MAC] == [("a", "10")], turn
            assert sum("guest connected" in line for line in s.lines) == 2
            qmp.close()
            b.close()
        except BaseException:
            print(machine.log())
            raise
        finally:
            machine.kill()


@pytest.mark.parametrize("mode", ["server", "client"])
def test_killed_and_started_again_with_the_same_file(mode, tmp_path):
    """Every MAC keeps its VLAN, whoever connects first; quiet VMs answer the first request."""
    n = max(3 if RESTARTS <= 2 else 8, QEMUS)
    vlans = [10 * (i // 2 + 1) for i in range(n)]
    ports = Ports(tmp_path, **{f"p{i}": f"vlan={vlan} mode={mode}" for i, vlan in enumerate(vlans)})
    macs = [f"52:54:00:00:00:{i + 1:02x}" for i in range(n)]
    machines, servers = [], {}
    with Wire("af_packet") as wire:
        s = wire.switch(*ports.write())
        try:
            for i in range(QEMUS):
                machines.append(quiet_vm(
                    f"quietport{i}", ports.sock(f"p{i}"), mac=macs[i], address=f"10.0.0.{i + 1}",
                    chardev={"server": ",reconnect=1", "client": ",server=on,wait=off"}[mode]))
            for machine in machines:
                wait_for(lambda m=machine: m.has("here"), 90 + 30 * QEMUS, "the VM")
            if mode == "client":
                servers = {i: Listener(ports.sock(f"p{i}")) for i in range(QEMUS, n)}
            wire.open()
            for turn in range(RESTARTS + 1):
                guests = {}
                for i in random.sample(range(QEMUS, n), n - QEMUS):
                    guests[i] = servers[i].guest(macs[i]) if servers else \
                        ports.guest(f"p{i}", macs[i])
                s.wait_guests(n, 120)
                for i in range(QEMUS):
                    s.wait_path(128 + i, "running", 120)
                for i in range(QEMUS):
                    others = {0, 5, *vlans} - {vlans[i]}
                    got = []
                    for _ in range(5):  # Linux notes a link that comes back once a second
                        got = got or arp(wire, vlans[i], others, i + 1, 2)
                    assert got == [vlans[i]], (turn, i)
                for i, g in guests.items():
                    g.announce()
                    tag, = {f[12:16] for f in wire.recv(1)}
                    assert tag == struct.pack(">HH", 0x8100, vlans[i])
                got = {(r["mac"], r["port"], r["domain"])
                       for r in s.telemetry("/vhost_switch/fdb").values()
                       if r["mac"] != OUTSIDE.hex(":")}
                assert got == {(macs[i], f"p{i}", str(vlans[i])) for i in range(n)}, turn
                print(f"start {turn + 1}: {n} guests have their VLANs", flush=True)
                if turn < RESTARTS:
                    s.proc.kill()
                    s.proc.wait()
                    s.lines.clear()
                for g in guests.values():
                    g.close()
                if turn < RESTARTS:
                    s.start()
        except BaseException:
            print(s.log(), *(machine.log() for machine in machines))
            raise
        finally:
            for machine in machines:
                machine.kill()
            for server in servers.values():
                server.close()
            s.stop()


def test_a_limited_tcp_flow(tmp_path):
    """TCP fits itself to a port's rate, within 5 %, and nothing is dropped."""
    ports = Ports(tmp_path, a="", b="")
    machines = []
    with Switch(*ports.write(), "--rx-retry-num", "1000", "--rx-retry-delay", "1000") as s:
        try:
            machines = [ShellVm(f"flow{name}", (ports.sock(name), f"52:54:00:00:00:{n:02x}"),
                                programs=["iperf3"]) for n, name in enumerate("ab", 1)]
            for n, machine in enumerate(machines, 1):
                machine.wait_ready()
                machine.run(f"ip addr add 10.0.0.{n}/24 dev eth0", "ip link set eth0 up")
            a, b = machines
            b.run("iperf3 -s -D")

            def flow(seconds):
                """Bits a second that arrive, after one second in which TCP and bucket settle."""
                a.begin(f"timeout 60 iperf3 -c 10.0.0.2 -t {seconds + 2} >/dev/null")
                words = b.run("sleep 1; for i in 1 2; do cat /proc/uptime",
                              "cat /sys/class/net/eth0/statistics/rx_bytes",
                              f"[ $i = 2 ] || sleep {seconds}; done").split()
                a.end(90)
                return 8 * (int(words[5]) - int(words[2])) / (float(words[3]) - float(words[0]))
            free = flow(1)
            rate = 100 if free > 150e6 else 20
            ports.ports["a"] = f"rate={rate}M"
            reload(s, ports, "0 ports added, 0 removed, 1 changed")
            limited = []
            while len(limited) < 5 and not (limited and limited[-1] > 0.95e6 * rate):
                limited.append(flow(4))  # slower only if the host is too busy for it
                print(f"{free / 1e6:.0f} Mbit/s, and {limited[-1] / 1e6:.1f} with rate={rate}M")
                assert limited[-1] < 1.05e6 * rate
            assert limited[-1] > 0.95e6 * rate, limited
            for n in range(2):
                st = consistent(s.stats(128 + n))
                assert st["tx_dropped"] == st["rx_dropped"] == 0
        except BaseException:
            for machine in machines:
                print(machine.log())
            raise
        finally:
            for machine in machines:
                machine.kill()
