# SPDX-License-Identifier: BSD-3-Clause
"""Guests without a VM: dpdk-testpmd's virtio_user, bridged to TAPs in network namespaces."""

import json
import os
import subprocess
import time

import pytest

from harness import Switch, cpus, eal_args, inside, wait_for

LCORES = f"0@{cpus()[1]},1@{cpus()[1]}"  # testpmd's main, which sleeps, and its worker


def ip(*args, check=True):
    subprocess.run(["ip", *args], check=check, stderr=None if check else subprocess.DEVNULL)


class Host:
    """A network namespace whose only interface leads, by way of testpmd, to the switch."""

    def __init__(self, switch, number, tmp, options=""):
        self.ns, self.tap = f"vs{os.getpid()}n{number}", f"vst{os.getpid() % 10000}{number}"
        self.mac, self.address = f"02:00:00:00:07:{number:02x}", f"192.168.78.{number}"
        self.log = open(os.path.join(tmp, f"testpmd{number}"), "w", encoding="utf-8")
        ip("netns", "add", self.ns)
        self.proc = subprocess.Popen(
            [*inside(self.ns), "dpdk-testpmd", *eal_args(self.ns, LCORES, 256, [
                "--no-telemetry", "--vdev",
                f"net_virtio_user0,path={switch.sock},mac={self.mac},queue_size=256{options}",
                "--vdev", f"net_tap0,iface={self.tap},mac={self.mac}"]),
             "--", "--forward-mode=io", "--auto-start", "--total-num-mbufs=4096", "--nb-cores=1",
             "-i"],
            stdin=subprocess.PIPE, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: "Checking link statuses" in self.output(), 20, "testpmd")
        except TimeoutError:
            self.close()
            print(self.output())
            raise
        self.run("ip", "addr", "add", self.address + "/24", "dev", self.tap)
        # 1500 bytes and no offloads: net_tap passes frames on as they are
        self.run("ip", "link", "set", self.tap, "address", self.mac, "up")
        self.run("ip", "link", "set", "lo", "up")

    def output(self):
        with open(self.log.name, encoding="utf-8") as f:
            return f.read()

    def run(self, *args, **kw):
        return subprocess.run([*inside(self.ns), *args], check=True,
                              capture_output=True, text=True, timeout=60, **kw).stdout

    def answers(self, address):
        """Whether one ping has an answer within a second."""
        return subprocess.run([*inside(self.ns), "ping", "-c", "1", "-W", "1", address],
                              stdout=subprocess.DEVNULL, check=False).returncode == 0

    def close(self):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdin.close()
        self.log.close()
        ip("netns", "del", self.ns, check=False)


@pytest.mark.parametrize("options", ["", ",packed_vq=1", ",mrg_rxbuf=0,in_order=0"],
                         ids=["default", "packed", "plain"])
def test_ping_and_tcp_between_namespaces(tmp_path, options):
    with Switch("--mergeable", "1") as s:
        hosts = []
        try:
            for i in (1, 2):
                hosts.append(Host(s, i, str(tmp_path), options))
            s.wait_guests(2)
            a, b = hosts
            # testpmd waits for links before it forwards, without a word
            wait_for(lambda: a.answers(b.address), 60, "the first answer")
            assert " 0% packet loss" in a.run("ping", "-c", "5", "-i", "0.2", "-W", "5", b.address)
            assert " 0% packet loss" in b.run("ping", "-c", "5", "-i", "0.2", "-W", "5", "-s",
                                              "1400", a.address)
            assert set(s.telemetry("/vhost_switch/fdb").values()) == {a.mac, b.mac}
            server = subprocess.Popen([*inside(b.ns), "iperf3", "-s", "-1"],
                                      stdout=subprocess.DEVNULL)
            wait_for(lambda: ":5201" in b.run("ss", "-ltn"), what="a server that listens")
            result = json.loads(a.run("iperf3", "-c", b.address, "-t", "2", "-J"))
            server.wait(10)
            assert result["end"]["sum_received"]["bytes"] > 1e6
        finally:
            for h in hosts:
                h.close()
        s.wait_guests(0)


def test_pcap_files_in_and_out_exact(tmp_path):
    """One guest plays a capture file, the other records one; 100 frames fit its ring."""
    from scapy.all import Ether, raw, rdpcap, wrpcap

    macs = ["02:00:00:00:08:01", "02:00:00:00:08:02"]
    hello = Ether(dst="ff:ff:ff:ff:ff:ff", src=macs[1], type=0x88b5) / bytes(46)
    frames = [Ether(dst=macs[1], src=macs[0], type=0x88b5) / os.urandom(46 + i * 14)
              for i in range(100)]
    procs = []

    def player(switch, number, play):
        wrpcap(str(tmp_path / f"in{number}"), play)
        procs.append(subprocess.Popen(
            ["dpdk-testpmd", *eal_args(f"vspcap{os.getpid()}{number}", LCORES, 256, [
                "--no-telemetry", "--vdev",
                f"net_virtio_user0,path={switch.sock},mac={macs[number]},queue_size=256",
                "--vdev", f"net_pcap0,rx_pcap={tmp_path}/in{number},"
                f"tx_pcap={tmp_path}/out{number}"]),
             "--", "--forward-mode=io", "--auto-start", "--no-flush-rx",
             "--total-num-mbufs=4096", "--nb-cores=1", "-i"], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    with Switch() as s:
        try:
            player(s, 1, [hello])
            s.wait_log(f"(0) MAC_ADDRESS {macs[1]}")
            player(s, 0, frames)
            wait_for(lambda: s.stats(0).get("rx_successful") == 100, 30, "100 frames")
            # all but what may stand in the buffer of its file
            size = sum(16 + len(raw(f)) for f in frames)
            wait_for(lambda: os.path.getsize(tmp_path / "out1") > size - 8192, what="a capture")
            time.sleep(0.5)
            procs[0].stdin.write(b"quit\n")  # closes the file
            procs[0].stdin.flush()
            procs[0].wait(20)
        finally:
            for p in procs:
                p.kill()
                p.wait()
                p.stdin.close()
        s.wait_guests(0)
    assert [raw(p) for p in rdpcap(str(tmp_path / "out1"))] == [raw(p) for p in frames]
