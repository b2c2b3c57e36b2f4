# SPDX-License-Identifier: BSD-3-Clause
"""Linux VMs that run one command after the other, as a test says, over a second serial port."""

import re
import shutil
import socket
import tempfile
import time

from harness import cpus, wait_for
from vm import NET_MODULES, Vm

SCRIPT = """
mkdir -p /run/netns
export PATH=/usr/sbin:/usr/bin
for i in $(seq 100); do [ -e /sys/class/net/eth{last} ] && break; sleep 0.1; done
exec 3<>/dev/ttyS1
stty raw -echo clocal <&3
echo takes commands
while true; do sh <&3 2>/dev/null | cat >&3; echo again; done
"""

# Not busybox's, which its shell takes first.
IP = 'ip() { /usr/sbin/ip "$@"; }\n'

# What each of these needs, in the order in which they are loaded.
MODULES = {"bridge": ["llc", "stp", "bridge"], "veth": ["veth"], "macvlan": ["macvlan"],
           "8021q": ["llc", "stp", "garp", "mrp", "8021q"], "bonding": ["tls", "bonding"]}


def card(n, sock, mac, chardev="", device=""):
    """QEMU's arguments for a further card, eth<n>, at a vhost-user socket."""
    return ["-chardev", f"socket,id=chr{n},path={sock}{chardev}",
            "-netdev", f"vhost-user,id=net{n},chardev=chr{n}",
            "-device", f"virtio-net-pci,netdev=net{n},mac={mac},romfile=,vectors=0{device}"]


class ShellVm(Vm):
    """A VM without IPv6, which sends nothing before it is told to.

    cards: (socket, MAC) of each; kinds: of MODULES.
    """

    def __init__(self, name, *cards, kinds=(), programs=(), extra=(), **kw):
        self.dir = tempfile.mkdtemp(prefix="vm-")
        modules = [*NET_MODULES, *dict.fromkeys(m for kind in kinds for m in MODULES[kind])]
        more = [a for n, (sock, mac) in enumerate(cards[1:], 1)
                for a in card(n, sock, mac, kw.get("chardev", ""))]
        self.number = 0
        super().__init__(name, SCRIPT.format(last=len(cards) - 1), cards[0][0], cards[0][1],
                         ["ip", "bridge", *programs], modules=modules, memory=128,
                         cpus=str(cpus()[1]), append="ipv6.disable=1 8250.nr_uarts=2", extra=[
                             *more, "-serial", f"unix:{self.dir}/shell,server=on,wait=off", *extra],
                         **kw)
        self.shell = None

    def wait_ready(self, timeout=90):
        wait_for(lambda: self.has("takes commands"), timeout, f"{self.name}\n{self.log()}")
        self.text = ""
        self.shell = socket.socket(socket.AF_UNIX)
        self.shell.connect(self.dir + "/shell")
        self.run("true")
        return self

    def _read_until(self, mark, timeout):
        end = time.monotonic() + timeout
        while mark not in self.text:
            self.shell.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = self.shell.recv(65536)
            except TimeoutError:
                more = b""
            if not more:
                raise TimeoutError(f"{self.name} does not say {mark!r}\n{self.text}{self.log()}")
            self.text += more.decode(errors="replace").replace("\r", "")
        before, _, self.text = self.text.partition(mark)
        return before

    def begin(self, *lines):
        """Start commands of a shell; end() waits for them."""
        self.number += 1
        self.shell.sendall(("(\n" + IP + "\n".join(lines) +
                            f"\n) </dev/null 2>&1; echo ::{self.number} $?::\n").encode())

    def end(self, timeout=60):
        """What they printed, and the exit status of the last."""
        out = self._read_until(f"::{self.number} ", timeout)
        return out, int(self._read_until("::\n", timeout))

    def run(self, *lines, timeout=60):
        """Run commands, each of which has to succeed; returns what they printed."""
        self.begin("set -e", *lines)
        out, code = self.end(timeout)
        assert code == 0, f"{self.name}: {lines}: {code}\n{out}"
        return out

    def kill(self):
        super().kill()
        if self.shell:
            self.shell.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def inside(namespace, command):
    return f"nsenter --net=/run/netns/{namespace} {command}"


def begin_pings(vm, addresses, namespace=None):
    """Ping all of them at once; reached() says which have answered."""
    ping = "ping -c 4 -i 0.3 -W 1 $to"
    ping = inside(namespace, ping) if namespace else ping
    vm.begin(f"for to in {' '.join(addresses)}; do", f"({ping} >/dev/null && echo reached $to) &",
             "done", "wait")


def reached(vm):
    return {line.split()[1] for line in vm.end()[0].splitlines() if line.startswith("reached ")}


class Pinging:
    """Pings an address ten times a second, so many seconds long, while other VMs do things."""

    def __init__(self, vm, address, seconds):
        self.vm, self.count = vm, 10 * seconds
        vm.begin(f"ping -c {self.count} -i 0.1 -W 1 {address}")

    def longest(self):
        """Wait for the end; returns for how many seconds there was no answer at most."""
        out, _ = self.vm.end(120)
        seqs = [-1, *(int(n) for n in re.findall(r"seq=(\d+)", out)), self.count]
        assert len(seqs) == len(set(seqs)), f"doubled\n{out}"
        return max(b - a - 1 for a, b in zip(seqs, seqs[1:])) / 10
