# SPDX-License-Identifier: BSD-3-Clause
"""Two hosts: a VM moves from one switch to another across a Linux bridge, while it is pinged."""

import json
import os
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import Switch, cpus, inside, wait_for
from vm import Qmp, Vm

MAC, PINGER = "52:54:00:00:00:01", "02:00:00:00:ee:01"
VM_IP, PINGER_IP = "192.168.77.1", "192.168.77.9"
VLAN = 1000  # device id 0 on either switch
INTERVAL = 0.02  # s between pings
SCRIPT = f"ip addr add {VM_IP}/24 dev eth0\nwhile true; do sleep 1; done\n"


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def raw(mac):
    return bytes.fromhex(mac.replace(":", ""))


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Fabric:
    """A Linux bridge that joins two network namespaces, each a host, and a pinger's interface."""

    def __init__(self):
        tag = str(os.getpid() % 10000)
        self.bridge, self.hosts = f"vsbr{tag}", [f"vs{tag}h{i}" for i in range(2)]
        self.ports = [f"vs{tag}p{i}" for i in range(3)]
        self.pinger = f"vs{tag}x"
        ip("link", "add", self.bridge, "type", "bridge", "forward_delay", "0",
           "mcast_snooping", "0")
        ip("link", "set", self.bridge, "addrgenmode", "none", "up")
        for host, port in zip(self.hosts, self.ports):
            ip("netns", "add", host)
            ip("link", "add", port, "type", "veth", "peer", "name", "uplink0", "netns", host)
            subprocess.run([*inside(host), "ip", "link", "set", "uplink0", "addrgenmode", "none",
                            "up"], check=True)
        ip("link", "add", self.ports[2], "type", "veth", "peer", "name", self.pinger)
        for name in (*self.ports, self.pinger):
            ip("link", "set", name, "addrgenmode", "none", "up")
        for port in self.ports:
            ip("link", "set", port, "master", self.bridge)

    def port_of(self, mac):
        """Where the bridge has learned a MAC."""
        out = subprocess.run(["bridge", "-j", "fdb", "show", "br", self.bridge], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
        return next((e["ifname"] for e in json.loads(out) if e["mac"] == mac), None)

    def close(self):
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host], check=False)
        for name in (self.pinger, self.bridge):
            subprocess.run(["ip", "link", "del", name], check=False)


class Pinger(threading.Thread):
    """Pings the VM at a steady pace in its VLAN, answers ARP, notes when what came."""

    def __init__(self, interface):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: tags
        self.sock.bind((interface, 0))
        self.sock.settimeout(INTERVAL / 4)
        self.stopped, self.replies, self.announced = False, [], []

    def send(self, dst, ethertype, payload):
        self.sock.send(raw(dst) + raw(PINGER) + struct.pack(">HHH", 0x8100, VLAN, ethertype) +
                       payload)

    def ping(self, number):
        icmp = struct.pack(">BBHHHd", 8, 0, 0, 1, number & 0xffff, 0) + bytes(40)
        icmp = icmp[:2] + struct.pack(">H", checksum(icmp)) + icmp[4:]
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0,
                           socket.inet_aton(PINGER_IP), socket.inet_aton(VM_IP))
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
        self.send(MAC, 0x0800, head + icmp)

    def take(self):
        try:
            frame, control, _, addr = self.sock.recvmsg(2048, 256)
        except TimeoutError:
            return
        if addr[2] == socket.PACKET_OUTGOING or frame[6:12] != raw(MAC):
            return
        tagged = [data for level, kind, data in control if (level, kind) == (263, 8) and
                  struct.unpack("=I", data[:4])[0] & 0x10]
        assert tagged and struct.unpack("=H", tagged[0][16:18])[0] == VLAN
        ethertype = frame[12:14]
        if ethertype == b"\x80\x35" or (ethertype == b"\x08\x06" and frame[28:32] == frame[38:42]):
            self.announced.append((time.monotonic(), ethertype))
        elif ethertype == b"\x08\x06" and frame[20:22] == b"\x00\x01":
            self.send(MAC, 0x0806, struct.pack(">HHBBH6s4s6s4s", 1, 0x800, 6, 4, 2, raw(PINGER),
                                               socket.inet_aton(PINGER_IP), frame[22:28],
                                               frame[28:32]))
        elif ethertype == b"\x08\x00" and frame[34] == 0:
            self.replies.append((time.monotonic(), struct.unpack(">H", frame[40:42])[0]))

    def run(self):
        number, due = 0, time.monotonic()
        while not self.stopped:
            if time.monotonic() >= due:
                self.ping(number)
                number, due = number + 1, due + INTERVAL
            self.take()
        self.sock.close()


# What QEMU itself sends for a guest that does not announce itself, or what Linux sends.
@pytest.mark.parametrize("device,ethertype", [(",guest_announce=off", b"\x80\x35"),
                                              ("", b"\x08\x06")], ids=["RARP", "gratuitous ARP"])
def test_a_vm_moves_to_another_host_while_it_is_pinged(tmp_path, device, ethertype):
    def switch(host):
        return Switch(vdev=["net_af_packet0,iface=uplink0"], port="0x1", wrap=inside(host))

    def start(name, s, *extra):
        return Vm(name, SCRIPT, s.sock, MAC, device=device, cpus=str(cpus()[1]), memory=128, extra=[
            "-qmp", f"unix:{tmp_path}/{name}.qmp,server=on,wait=off", *extra])

    fabric = Fabric()
    pinger, machines, talks = None, [], []
    try:
        with switch(fabric.hosts[0]) as one, switch(fabric.hosts[1]) as two:
            try:
                machines.append(start("first", one))
                one.wait_guests(1, 60)
                pinger = Pinger(fabric.pinger)
                pinger.start()
                wait_for(lambda: len(pinger.replies) > 50, 60, "answers of the VM")
                assert fabric.port_of(MAC) == fabric.ports[0]
                machines.append(start("second", two, "-S", "-incoming", f"unix:{tmp_path}/move"))
                talks = [Qmp(f"{tmp_path}/{n}.qmp") for n in ("first", "second")]
                talks[0]("migrate-set-parameters", **{"max-bandwidth": 1 << 30})
                pinger.announced.clear()
                began = time.monotonic()
                talks[0]("migrate", uri=f"unix:{tmp_path}/move")
                wait_for(lambda: talks[0]("query-migrate")["status"] == "completed", 60,
                         "the end of migration")
                info = talks[0]("query-migrate")
                talks[1]("cont")
                wait_for(lambda: fabric.port_of(MAC) == fabric.ports[1], 20,
                         "a bridge that follows")
                moved = time.monotonic()
                wait_for(lambda: pinger.replies[-1][0] > moved + 1, 20, "answers from there")
                # The first host's switch still knows the VM, which is stopped; it ends as it would.
                talks[0]("quit")
                machines[0].wait(20)
                one.wait_guests(0)
                pinger.stopped = True
                pinger.join()
                times = [t for t, _ in pinger.replies if t > began - 0.5]
                gap = max(b - a for a, b in zip(times, times[1:]))
                print(f"without answer for {gap * 1000:.0f} ms; the VM was stopped for "
                      f"{info['downtime']} ms, {info['total-time']} ms in all")
                assert ethertype in [kind for _, kind in pinger.announced]
                assert gap < 5
                numbers = [n for _, n in pinger.replies]
                assert len(numbers) == len(set(numbers)), "doubled"
                assert two.telemetry("/vhost_switch/fdb") == {"0": MAC}
            except BaseException:
                for machine in machines:
                    print(machine.log()[-2000:])
                raise
            finally:
                if pinger:
                    pinger.stopped = True
                for talk in talks:
                    talk.close()
                for machine in machines:
                    machine.kill()
    finally:
        fabric.close()
