# SPDX-License-Identifier: BSD-3-Clause
"""Starting the real binary, and asking it things."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager

from deadline import Deadline
from tree import ROOT

APP = os.environ.get("VHOST_SWITCH", os.path.join(ROOT, "build/app/vhost-switch"))
MODEL = os.path.join(ROOT, "build/nic82599/libnic82599.so")
NR_HUGEPAGES = "/proc/sys/vm/nr_hugepages"
DOORBELL = os.path.join(ROOT, "build/nic82599/libdoorbell.so")


def cpus():
    """
    CPUs this process may use: (switch, guests); the same one twice when there is but one. The
    other way round in every other process of pytest-xdist.
    """
    all_cpus = sorted(os.sched_getaffinity(0))
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0")[-1] in "13579":
        all_cpus.reverse()
    return all_cpus[0], all_cpus[-1]


def wait_for(condition, timeout=20, what="the condition"):
    deadline, pause = Deadline(timeout), 0.001
    while not deadline.is_over():
        value = condition()
        if value:
            return value
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    raise TimeoutError(f"no sign of {what} in {timeout} s")


def hugepages():
    with open("/proc/meminfo", encoding="ascii") as f:
        free = re.search(r"HugePages_Free:\s+(\d+)", f.read())
    return int(free.group(1)) if free else 0


def set_hugepages(f, n):
    f.seek(0)
    f.write(str(n))
    f.flush()


@contextmanager
def reserved_hugepages(want):
    """
    Ask for 2 MB hugepages, and give them back; others who do so wait. Whatever comes is used.
    """
    try:
        f = open(NR_HUGEPAGES, "r+", encoding="ascii")
    except OSError:
        yield  # the kernel has none, or does not let us reserve any
        return
    with f:
        fcntl.flock(f, fcntl.LOCK_EX)
        before = int(f.read())
        if hugepages() < want:
            set_hugepages(f, before + want)
        try:
            yield
        finally:
            set_hugepages(f, before)


# Hugepages of its own, and few files: a virtio_user port names each to the switch.
FEW_FILES = ("--in-memory", "--single-file-segments")


def eal_args(prefix, lcores, memory=512, extra=(), huge=False):
    """EAL's arguments; lcores in the form of -l, or with an @ in that of --lcores.

    huge: False, True (hugepages of its own), EAL's own options as a tuple (FEW_FILES), or a
    hugetlbfs mount that secondary processes share.
    """
    if isinstance(huge, tuple):
        pages = huge
    else:
        pages = {False: ["--no-huge"], True: ["--in-memory"]}.get(huge, ["--huge-dir", huge])
    return ["--lcores" if "@" in lcores else "-l", lcores, *pages, "--no-pci", *extra,
            "--file-prefix", prefix, "-m", str(memory)]


def vdev_args(vdevs):
    return [a for v in vdevs for a in ("--vdev", v)]


def inside(namespace):
    """What to put before a command. "ip netns exec" remounts /sys, which fails in a chroot."""
    return ("nsenter", f"--net=/run/netns/{namespace}")


class Place:
    """A directory for a program, its own unless cwd is given, and EAL's file prefix there."""

    def __init__(self, cwd=None, kind="vhost-switch-"):
        self.own_dir = cwd is None
        self.dir = cwd or tempfile.mkdtemp(prefix=kind)
        self.prefix = os.path.basename(self.dir)

    def clear(self):
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)


class Switch(Place):
    """A running vhost-switch."""

    def __init__(self, *app_args, vdev=(), lcores=None, port="0x0", memory=512, eal=(), cwd=None,
                 start=True, app=APP, env=None, huge=False, wrap=()):
        super().__init__(cwd)
        self.sock = os.path.join(self.dir, "vhost-net")
        lcores = lcores if lcores is not None else str(cpus()[0])
        self.args = [*wrap, app, *eal_args(self.prefix, lcores, memory, eal, huge),
                     *vdev_args(vdev), "--", "-p", port, *app_args]
        self.env = dict(os.environ, **(env or {}))
        self.lines, self.proc = [], None
        if start:
            self.start()

    def start(self):
        self.proc = subprocess.Popen(self.args, cwd=self.dir, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, env=self.env, text=True,
                                     errors="surrogateescape")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        wait_for(lambda: self.has("worker 0 runs") or self.proc.poll() is not None, 60,
                 "a running switch")
        assert self.proc.poll() is None, self.log()

    def _read(self):
        for line in self.proc.stdout:
            self.lines.append(line.rstrip("\n"))

    def log(self):
        """What it printed, less librte_vhost's account of every message."""
        return "\n".join(line for line in list(self.lines) if "VHOST_CONFIG" not in line)

    def has(self, text):
        return any(text in line for line in list(self.lines))

    def wait_log(self, text, timeout=20):
        wait_for(lambda: self.has(text), timeout, f"'{text}' in the log\n{self.log()}")

    def telemetry(self, command):
        """Ask over telemetry's socket, as dpdk-telemetry.py does; counters once they settle."""
        if command == "/vhost_switch/port":
            self.settle()
        path = os.path.join(runtime_dir(), self.prefix, "dpdk_telemetry.v2")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(10)
            s.connect(path)
            s.recv(4096)
            s.send(command.encode())
            return json.loads(s.recv(1 << 20))[command.split(",")[0]]

    def pages(self, command):
        """All pages of an answer, one after the other, without their "cut"."""
        page = self.telemetry(command) or {}
        while page:
            after = page.pop("cut", None)
            yield page
            page = self.telemetry(f"{command},{after}") if after else None

    def settle(self):
        """Until each worker has begun and ended a round: what it had taken is counted then."""
        def rounds():
            return {i: w["rounds"] for page in self.pages("/vhost_switch/workers")
                    for i, w in page.items()}
        before = rounds()
        wait_for(lambda: all(n >= before[k] + 2 for k, n in rounds().items()), what="workers")

    def stats(self, guest):
        """Counters of a guest, with all that its ring has given back so far."""
        self.settle()
        return self.telemetry(f"/vhost_switch/stats,{guest}")

    def wait_registered(self, *macs):
        wait_for(lambda: set(macs) <= {g["mac"] for g in self.guests().values()
                                       if g["state"] == "registered"}, 20, f"{macs}, {self.log()}")

    def wait_lines(self, text, n, timeout=20):
        """n lines with a text, no more: lines are written some time after what they are about."""
        def count():
            return sum(text in line for line in list(self.lines))
        wait_for(lambda: count() >= n, timeout, f"{n} lines with '{text}'\n{self.log()}")
        assert count() == n, self.log()

    def guests(self):
        return {i: g for page in self.pages("/vhost_switch/guests") for i, g in page.items()}

    def path(self, guest):
        """Whether frames go to and from a guest: running or stopped."""
        return self.telemetry(f"/vhost_switch/paths,{guest}")["state"]

    def wait_path(self, guest, state, timeout=30):
        wait_for(lambda: self.path(guest) == state, timeout, f"guest {guest} {state}, {self.log()}")

    def wait_guests(self, n, timeout=30):
        wait_for(lambda: len(self.guests()) == n, timeout, f"{n} guests, {self.log()}")

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """Stop it and check that it left in order: every mbuf back, no socket left."""
        self.proc.send_signal(sig)
        wait_for(lambda: self.proc.poll() is not None, timeout, "the end of the switch")
        code = self.proc.returncode
        self.reader.join()
        left = os.listdir(self.dir)
        if self.own_dir:
            shutil.rmtree(self.dir)
        assert code == 0, f"exit status {code}\n{self.log()}"
        assert self.has("mbufs are back in pool mbufs"), self.log()
        assert not self.has("are missing in pool"), self.log()
        assert not left or not self.own_dir, f"still there: {left}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.proc is None or self.proc.poll() is not None:
            if kind is None:
                assert self.proc is None or self.proc.returncode == 0, self.log()
            else:
                print(self.log())
            return
        if kind is not None:
            self.proc.kill()
            self.proc.wait()
            print(self.log())
            self.clear()
            return
        self.stop()


def runtime_dir():
    """Where EAL keeps its files (rte_eal_get_runtime_dir)."""
    base = "/var/run" if os.getuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/tmp")
    return os.path.join(base, "dpdk")


class Wire:
    """The far end of an uplink: a raw socket on an interface, tags and all.

    kind: what the switch uses, "af_packet", "pcap" (both on a veth pair), "tap", or "82599": the
    model of that card (tests/nic82599) driven by the ixgbe PMD, with a tap as its cable. It is told
    of packets by the instruction that DPDK takes on this CPU, or by doorbell: "mov", "movdiri".
    For jumbo frames its cable is a veth pair, since a tap of DPDK carries none.
    """

    ETH_TEST = 0x88b5  # IEEE 802 local experimental

    def __init__(self, kind, plugged=True, doorbell=None, jumbo=False):
        self.kind, self.doorbell = kind, doorbell
        tag = f"{os.getpid() % 100000}"
        self.near, self.far = f"vs{tag}a", f"vs{tag}b"
        self.port, self.memory, self.eal = "0x1", 512, []
        self.sock = None
        self.is_tap = kind in ("tap", "82599") and not jumbo
        if self.is_tap:
            self.far = f"vs{tag}t"
            self.vdev = [f"net_tap0,iface={self.far}"]
        else:
            self._ip("link", "add", self.near, "type", "veth", "peer", "name", self.far)
            for name in (self.near, self.far):
                self._ip("link", "set", name, "addrgenmode", "none",
                         "mtu", "9600" if jumbo else "1500", "up")
            self.vdev = [f"net_{kind}0,iface={self.near}"]
        if kind == "82599":
            cable = "net_tap0"
            if jumbo:
                cable = "net_af_packet0"
                self.vdev = [f"{cable},iface={self.near},framesz=12288,blocksz=12288"]
            self.vdev.append(f"nic82599,wire={cable},link={int(plugged)}")
            self.port, self.memory = "0x2", 1024  # mbufs for 128 queues
            self.eal = ["-d", MODEL, "--iova-mode=va"]

    @staticmethod
    def _ip(*args, check=True):
        subprocess.run(["ip", *args], check=check, stderr=None if check else subprocess.DEVNULL)

    def switch(self, *app_args, **kw):
        """A switch with this wire on its port."""
        env = {"LD_PRELOAD": DOORBELL, "DOORBELL": self.doorbell} if self.doorbell else {}
        return Switch(*app_args, **{"vdev": self.vdev, "port": self.port, "eal": self.eal,
                                    "memory": self.memory, "env": env, **kw})

    def open(self):
        """Once the switch runs: a TAP exists only then."""
        if self.is_tap:
            # or the kernel reports its multicast groups on it
            silent = f"/proc/sys/net/ipv6/conf/{self.far}/disable_ipv6"
            if os.path.exists(silent):
                with open(silent, "w", encoding="ascii") as f:
                    f.write("1")
            self._ip("link", "set", self.far, "addrgenmode", "none", "up")
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA
        self.sock.bind((self.far, 0))
        self.sock.settimeout(5)
        return self

    def send(self, *frames):
        for frame in frames:
            self.sock.send(frame)

    def recv(self, n=1, timeout=5):
        """Frames of the tests that arrive at the far end, with their tags put back."""
        out, end = [], time.monotonic() + timeout
        while len(out) < n:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                frame, anc, _, addr = self.sock.recvmsg(65536, 256)
            except TimeoutError:
                raise TimeoutError(f"{len(out)} of {n} frames came") from None
            if addr[2] == socket.PACKET_OUTGOING:
                continue
            for level, kind, data in anc:
                if level == 263 and kind == 8:
                    status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
                    if status & 0x10:  # TP_STATUS_VLAN_VALID
                        frame = frame[:12] + struct.pack(">HH", tpid or 0x8100, tci) + frame[12:]
            ethertype = frame[16:18] if frame[12:14] == b"\x81\x00" else frame[12:14]
            if struct.unpack(">H", ethertype)[0] == self.ETH_TEST:
                out.append(frame)
        return out

    def quiet(self, seconds=0.3):
        try:
            got = self.recv(1, seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected: {got[0].hex()}")

    def close(self):
        if self.sock:
            self.sock.close()
        if not self.is_tap:
            self._ip("link", "del", self.near, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
