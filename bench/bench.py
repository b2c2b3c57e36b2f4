#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench: guest to guest, vhost-switch against dpdk-testpmd (io) and Open vSwitch-DPDK.

Each switch has its own guests. Two switches run at the same time; one is stopped while the other
works, they change over every slice, the order changes every round, and the paired ratios give
median and quartiles.

    bench/bench.py [--rounds N] [--modes drain,sustained,packed,latency] [--sizes 64,512,1518]
                   [--guests 2,16] [--peers testpmd,ovs,scale,idle,plain,one,shared,checked,other]

Modes: "sustained" has virtio_user ports on one lcore (bench/generator.c), where guests and switch
share the work; "packed" the same with packed virtqueues; "latency" one frame at a time between two
of them; "drain" guests that cost next to nothing (bench/drain.c), so that the switch is measured.
"chain" and "indirect" are "drain" with frames of two descriptors, as Linux sends them, and "flood"
has one guest that broadcasts to all others. "packed-drain" is "drain" with packed virtqueues,
"csum" with TCP whose checksums are left to the receivers, "tso" and "tso-pages" with unsegmented
TCP of 64000 bytes whatever --sizes says (the rate in bytes is 64000 times theirs), "mq" with UDP of
16 flows by four queue pairs a guest. "uplink-down" and "uplink-up" are "sustained" with a
wire at the NIC side (a net_vhost port) that sends to the guests, or that they send to.
Peer "plain" is the same switch with "drain", "one" with one queue pair a guest. Peer "shared" is
the switch with guests without ports, ours with named ports of one VLAN; "checked" the same, ours
with ports that check sources. "other" is the build of vhost-switch that OTHER_SWITCH names.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/lib"))

import harness  # noqa: E402
import plot  # noqa: E402
from harness import FEW_FILES, ROOT, cpus, reserved_hugepages, vdev_args, wait_for  # noqa: E402
from vhostuser import (F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_HOST_TSO4, F_INDIRECT,  # noqa: E402
                       F_MRG_RXBUF, F_PACKED, Guest)

SWITCH_CPU, GUEST_CPU = cpus()
HUGEPAGES = 1400


class Drain(NamedTuple):
    """A mode of bench/drain.c: its word for the frames, and what guests and switch agree on."""

    frames: str
    features: int = 0
    switch: tuple = ()  # options of vhost-switch
    offloads: bool = False  # a peer must be told to offer them
    pairs: int = 1
    buf_len: int = 2048
    sizes: tuple = ()  # whatever --sizes says


CSUM = F_CSUM | F_GUEST_CSUM
UNSEGMENTED = {
    "features": CSUM | F_HOST_TSO4 | F_GUEST_TSO4 | F_MRG_RXBUF | F_INDIRECT,
    "switch": ("--tso", "1", "--mergeable", "1"), "offloads": True, "buf_len": 4096,
    "sizes": (64000,),
}
DRAIN = {
    "drain": Drain("plain"),
    "chain": Drain("chain"),
    "indirect": Drain("indirect", F_INDIRECT),
    "flood": Drain("flood"),
    "packed-drain": Drain("packed", F_PACKED),
    "csum": Drain("csum", CSUM, ("--tx-csum", "1"), offloads=True),
    "tso": Drain("tso", **UNSEGMENTED),
    "tso-pages": Drain("tso-pages", **UNSEGMENTED),
    "mq": Drain("mq", pairs=4),
}


# EAL's arguments of each program: the same for all, or they would not be compared alike.
EAL = {"memory": 256, "huge": FEW_FILES}
ON_BOTH = f"0@{GUEST_CPU},1@{SWITCH_CPU}"


def eal(prefix, lcores):
    return harness.eal_args(prefix, lcores, extra=["--no-telemetry"], **EAL)


class Switch(harness.Place):
    """A switch under measurement and the guests that hang on it."""

    keeps_tags = False  # what it does to frames between guests and wire

    def __init__(self, mode, size, guests):
        super().__init__(kind="bench-")
        self.procs, self.connected, self.pid = [], [], None
        self.wire = os.path.join(self.dir, "wire") if mode.startswith("uplink") else None
        try:
            self.frames = self.drain_of(mode)
            self.start(guests)
            self.guests = self.drain(size, guests) if self.frames else \
                self.generator(mode, size, guests)
            self.stop()
        except BaseException:
            self.close()
            raise

    def drain_of(self, mode):
        """The mode of bench/drain.c, None if it has other guests."""
        return DRAIN.get(mode)

    def offloads(self):
        return self.frames is not None and self.frames.offloads

    def spawn(self, args, **kw):
        proc = subprocess.Popen(args, cwd=self.dir, stdin=subprocess.PIPE, text=True,
                                stdout=kw.pop("stdout", subprocess.DEVNULL),
                                stderr=open(os.path.join(self.dir, "log"), "a", encoding="utf-8"),
                                **kw)
        self.procs.append(proc)
        return proc

    def sockets(self, guests):
        return [os.path.join(self.dir, f"s{i}") for i in range(guests)]

    def ready(self, proc):
        line = proc.stdout.readline()
        while line and line != "ready\n":
            line = proc.stdout.readline()
        assert line, f"the guests did not start\n{self.log()}"
        return proc

    def dial(self, path):
        """The connection of a guest, None if it is to connect to the path."""
        return None

    def talking(self, guests):
        """How many of the guests send."""
        return guests

    def drain(self, size, guests):
        """Guests whose rings bench/drain.c writes; this process holds their connections."""
        kind = self.frames
        proc = self.ready(self.spawn(["taskset", "-c", str(GUEST_CPU),
                                      os.path.join(ROOT, "build/bench/drain"), str(size),
                                      kind.frames], stdout=subprocess.PIPE))
        for i, path in enumerate(self.sockets(guests)):
            mac = f"02:00:00:00:00:{i:02x}"
            talks = i < self.talking(guests)
            g = Guest(path, mac, huge=True, timeout=20, features=kind.features, pairs=kind.pairs,
                      buf_len=kind.buf_len, rx_buffers=0 if talks else None, sock=self.dial(path))
            self.connected.append(g)
            missing = kind.features & ~g.features
            assert not missing, f"{self.name} does not offer features {missing:#x}"
            if talks:
                print("guest", f"/proc/{os.getpid()}/fd/{g.memfd}", g.length, g.size, kind.buf_len,
                      mac, file=proc.stdin)
                for ring in g.rings:
                    print("ring", ring.desc, ring.avail, ring.used, ring.bufs, file=proc.stdin)
        time.sleep(0.5)
        return proc

    def generator(self, mode, size, guests):
        args = [os.path.join(ROOT, "build/bench/generator"),
                *eal(f"gen-{self.prefix}", f"0@{GUEST_CPU}")]
        sockets = self.sockets(guests)
        for i, path in enumerate(sockets + [self.wire] * (self.wire is not None)):
            wait_for(lambda p=path: os.path.exists(p), 20, f"{path}\n{self.log()}")
            args += ["--vdev", f"net_virtio_user{i},path={path},mac=02:00:00:00:00:{i:02x},"
                     f"queue_size=256,mrg_rxbuf=0,in_order=1,packed_vq={int(mode == 'packed')}"]
        words = [mode.split("-")[1], *(["wire"] if self.keeps_tags else [])] if self.wire else []
        return self.ready(self.spawn([*args, "--", str(size), *words], stdout=subprocess.PIPE))

    def log(self):
        """What all that spawn() started said on stderr."""
        path = os.path.join(self.dir, "log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8") as f:
            return f.read()[-3000:]

    def ask(self, command):
        self.guests.stdin.write(command + "\n")
        self.guests.stdin.flush()
        return [float(v) for v in self.guests.stdout.readline().split()]

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)

    def work(self, command):
        os.kill(self.pid, signal.SIGCONT)
        try:
            return self.ask(command)
        finally:
            self.stop()

    def learn(self):
        """Until it knows all MACs: frames that it floods meanwhile are no mistake."""
        for _ in range(20):
            frames, bad, _ = self.work("run 100 100")
            if frames and not bad:
                return

    def rate(self, warm, ms):
        frames, bad, seconds = self.work(f"run {warm} {ms}")
        assert bad == 0, f"{bad:.0f} wrong frames from {self.name}"
        return frames / seconds if seconds else 0.0

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)
        for proc in reversed(self.procs):
            proc.kill()
            proc.wait()
        for g in self.connected:
            g.close()
        self.clear()


class VhostSwitch(Switch):
    name = "vhost-switch"
    app = os.path.join(ROOT, "build/app/vhost-switch")

    def ways(self, paths):
        """Options for sockets by which guests come."""
        return [a for path in paths for a in ("--socket-file", path)]

    def start(self, guests):
        args = self.ways(dict.fromkeys(self.sockets(guests)))
        self.switch = harness.Switch(
            *args, *(self.frames.switch if self.frames else ()), app=self.app, cwd=self.dir,
            lcores=ON_BOTH, eal=["--no-telemetry"],
            vdev=[f"net_vhost0,iface={self.wire}"] if self.wire else [],
            port="0x1" if self.wire else "0x0", start=False, **EAL)
        try:
            self.switch.start()
        finally:
            if self.switch.proc:
                self.procs.append(self.switch.proc)
        self.pid = self.switch.proc.pid

    def log(self):
        return self.switch.log()[-3000:] + super().log()


class Testpmd(Switch):
    name = "testpmd io"
    keeps_tags = True

    def sockets(self, guests):
        return super().sockets(1 if self.wire else guests)  # it joins ports in pairs

    def start(self, guests):
        paths = self.sockets(guests) + [self.wire] * (self.wire is not None)
        pairs = self.frames.pairs if self.frames else 1
        # What a frame asks for is in the flags of a frame to be sent, or "io" would lose it.
        how = f"queues={pairs}" + (",tso=1,legacy-ol-flags=1" if self.offloads() else "")
        vdev = vdev_args(f"net_vhost{i},iface={path},{how}" for i, path in enumerate(paths))
        self.pid = self.spawn(["dpdk-testpmd", *eal(self.prefix, ON_BOTH), *vdev, "--",
                               "--nb-cores=1", "--forward-mode=io", "--auto-start",
                               "--total-num-mbufs=32768", "--txd=256", "--rxd=256",
                               f"--txq={pairs}", f"--rxq={pairs}", "-i"]).pid


class OpenVSwitch(Switch):
    """Ports that connect to their guests, where offloads matter: others have none of TCP."""

    name = "Open vSwitch"

    def __init__(self, *args):
        self.listeners = {}
        super().__init__(*args)

    def dial(self, path):
        return self.listeners[path].accept()[0] if path in self.listeners else None

    def port(self, name):
        """How to add a port for a guest."""
        path = os.path.join(self.dir, name)
        if not self.offloads():
            return ["type=dpdkvhostuser"]
        self.listeners[path] = listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(20)
        listener.bind(path)
        listener.listen()
        return ["type=dpdkvhostuserclient", f"options:vhost-server-path={path}"]

    def close(self):
        for listener in self.listeners.values():
            listener.close()
        super().close()

    def start(self, guests):
        run = self.dir
        env = dict(os.environ, OVS_RUNDIR=run, OVS_LOGDIR=run, OVS_DBDIR=run, OVS_SYSCONFDIR=run)
        db = f"unix:{run}/db.sock"

        def call(*args):
            subprocess.run(args, check=True, env=env, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=60)

        call("ovsdb-tool", "create", f"{run}/conf.db",
             "/usr/share/openvswitch/vswitch.ovsschema")
        self.spawn(["ovsdb-server", f"{run}/conf.db", f"--remote=punix:{run}/db.sock"], env=env)
        wait_for(lambda: os.path.exists(f"{run}/db.sock"))
        vsctl = ["ovs-vsctl", f"--db={db}", "--no-wait"]
        call(*vsctl, "init")
        call(*vsctl, "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
             f"other_config:dpdk-lcore-mask={1 << GUEST_CPU:#x}",
             f"other_config:pmd-cpu-mask={1 << SWITCH_CPU:#x}",
             "other_config:dpdk-extra=--in-memory --single-file-segments --no-pci "
             "--no-telemetry -m 256",
             *(["other_config:userspace-tso-enable=true"] if self.offloads() else []))
        call(*vsctl, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
        for i in range(guests):
            tag = [f"tag={1000 + i}"] if self.wire else []
            call(*vsctl, "add-port", "br0", f"s{i}", *tag, "--", "set", "Interface", f"s{i}",
                 *self.port(f"s{i}"))
        if self.wire:
            call(*vsctl, "add-port", "br0", "wire", "--", "set", "Interface", "wire",
                 "type=dpdkvhostuser")
        vswitchd = shutil.which("ovs-vswitchd")
        dpdk = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
        self.pid = self.spawn([dpdk if os.path.exists(dpdk) else vswitchd, db,
                               f"--unixctl={run}/vswitchd.ctl"], env=env).pid


class OtherBuild(VhostSwitch):
    """Another build of the same switch, to measure a change."""

    name = "other build"
    app = os.environ.get("OTHER_SWITCH", "")


class TwoGuests(VhostSwitch):
    """The same switch with two guests: the ratio is what a frame costs with two to with n."""

    name = "2 guests"

    def sockets(self, guests):
        return super().sockets(2)


class PlainFrames(VhostSwitch):
    """The same switch with frames that ask for nothing, by one queue pair."""

    name = "plain frames"

    def drain_of(self, mode):
        assert mode in DRAIN and not DRAIN[mode].sizes, f"no plain frames as long as in {mode}"
        return DRAIN["drain"]


class OnePair(VhostSwitch):
    """The same switch and the same flows, by one queue pair."""

    name = "one pair"

    def drain_of(self, mode):
        assert mode == "mq", f"there is but one queue pair in {mode}"
        return DRAIN[mode]._replace(pairs=1)


class MostlyIdle(VhostSwitch):
    """Many guests of which two talk."""

    def talking(self, guests):
        return 2

    def sockets(self, guests):
        return super().sockets(1) * guests


class NamedPorts(VhostSwitch):
    """The same switch with a named port for each guest, all in one VLAN."""

    keys = "vlan=10"

    def ways(self, paths):
        return [a for i, path in enumerate(paths)
                for a in ("--port", f"name=p{i},socket={path},{self.keys}")]


class CheckedPorts(NamedPorts):
    keys = "vlan=10,source-check=yes"


class Shared(VhostSwitch):
    name = "shared"


OURS = {"idle": MostlyIdle, "shared": NamedPorts, "checked": CheckedPorts}

PEERS = {"testpmd": Testpmd, "ovs": OpenVSwitch, "scale": TwoGuests, "idle": TwoGuests,
         "plain": PlainFrames, "one": OnePair, "shared": Shared, "checked": Shared,
         "other": OtherBuild}


def compare(ours, peer, rounds, slice_ms):
    """Paired ratios ours / peer, and our rates."""
    ratios, rates, spoilt = [], [], 0
    for s in (ours, peer):
        s.learn()
    for turn in range(rounds):
        order = (ours, peer) if turn % 2 else (peer, ours)
        try:
            rate = {s: s.rate(40, slice_ms) for s in order}
        except AssertionError as e:
            # a peer may flood when its table ages, or be late once: not often, and never we
            spoilt += 1
            if ours.name in str(e) or spoilt > rounds / 4:
                raise
            continue
        if rate[peer] and rate[ours]:
            ratios.append(rate[ours] / rate[peer])
            rates.append(rate[ours])
    return statistics.quantiles(ratios, n=4), statistics.median(rates)


def latency(ours, peer, rounds):
    """Medians of p50 and p99 of single frames, each switch in turns."""
    got = {ours: [], peer: []}
    for turn in range(rounds):
        for s in (ours, peer) if turn % 2 else (peer, ours):
            s.rate(5, 20)
            got[s].append(s.work("ping 1000 100"))
    return [[statistics.median(v[i] for v in got[s]) for i in (0, 1)] for s in (ours, peer)]


def measure(mode, peer_name, n, size, args):
    """One row: prints it, and returns what a plot wants of it."""
    ours = peer = None
    try:
        ours = OURS.get(peer_name, VhostSwitch)(mode, size, n)
        peer = PEERS[peer_name](mode, size, n)
        head = f"{mode:<13}{peer.name:<13}{n:>6}{size:>6}"
        if mode == "latency":
            (p50, p99), (q50, q99) = latency(ours, peer, args.rounds)
            print(f"{head}{p50 / q50:>7.2f}{'':>23}{f'{p50:.2f}:{q50:.2f}':>11}"
                  f"{f'{p99:.1f}:{q99:.1f}':>9}", flush=True)
            return None
        (low, mid, high), rate = compare(ours, peer, args.rounds, args.slice)
        few = rate < 1e6  # long frames
        print(f"{head}{mid:>7.2f}{f'{low:.2f}-{high:.2f}':>11}"
              f"{f'{rate / 1e6:.{3 if few else 1}f}':>6}{f'{1e9 / rate:.{0 if few else 1}f}':>6}",
              flush=True)
        return (mode, peer.name, n, size, low, mid, high, rate)
    except (AssertionError, OSError, TimeoutError, subprocess.SubprocessError) as e:
        print(f"{mode:<13}{peer_name:<13}{n:>6}{size:>6}  not measured: {e}", flush=True)
        return None
    finally:
        for s in (ours, peer):
            if s:
                s.close()


def sizes_of(mode, args):
    fixed = DRAIN[mode].sizes if mode in DRAIN else ()
    return fixed or [int(size) for size in args.sizes.split(",")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--slice", type=int, default=160)
    parser.add_argument("--modes", default="drain,sustained,packed,latency")
    parser.add_argument("--sizes", default="64,512,1518")
    parser.add_argument("--guests", default="2,16")
    parser.add_argument("--peers", default="testpmd,ovs,scale")
    parser.add_argument("--plot", help="draw rates and ratios into this SVG")
    args = parser.parse_args()

    rows = []
    with reserved_hugepages(HUGEPAGES):
        print("Ratio of rates (median, quartiles), our rate and time for a frame;"
              " or of latencies, a lone frame in us, ours:peer")
        print(f"{'mode':<13}{'peer':<13}{'guests':>6}{'bytes':>6}{'ratio':>7}{'quartiles':>11}"
              f"{'Mpps':>6}{'ns':>6}{'median':>11}{'99th':>9}")
        for mode in args.modes.split(","):
            for peer in args.peers.split(","):
                for n in map(int, args.guests.split(",")):
                    for size in sizes_of(mode, args):
                        rows.append(measure(mode, peer, n, size, args))
    rows = [r for r in rows if r]
    if args.plot and rows:
        plot.draw(rows, args.plot)


if __name__ == "__main__":
    time.tzset()
    sys.exit(main())
