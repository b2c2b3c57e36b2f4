# SPDX-License-Identifier: BSD-3-Clause
"""The commands of the guide and of README, run as they stand there, page by page.

A page is a session: its commands are run one after the other in a network namespace of its own.
What runs on (a switch, testpmd, a capture) is started, seen at work, and ended before the next one
of its kind. Only what a machine decides is changed: paths below /tmp, /run and /mnt, the numbers of
CPUs, and where programs are. A comment before a block that no test can run says so and why: readers
do not see it.
"""

import glob
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import APP, ROOT, cpus, inside, wait_for
from vhostuser import Guest

MARK = re.compile(r" *\.\. (needs hardware|not run by a test): \S")

# Pages, or commands of one, that another test runs.
ELSEWHERE = {
    "building": r"make install$",  # test_install.py; the folder for a package is tried here
    "cuse": r".",  # inside a VM: tests/vm/test_cuse.py
    "multihost": r"qemu-system|\(qemu\)|pytest",  # tests/vm/test_multihost.py
    "qemu": r"qemu-system",  # test_qemu.py
    "qemu-wrap": r"qemu-wrap",  # likewise
}


def path_of(page):
    return os.path.join(ROOT, "README.rst" if page == "README" else f"doc/{page}.rst")


def blocks(page):
    """The literal blocks of a page: language, lines."""
    with open(path_of(page), encoding="utf-8") as f:
        lines = f.read().split("\n")
    i, marked = 0, False
    while i < len(lines):
        marked = marked or bool(MARK.match(lines[i]))
        m = re.match(r"( *)(?:\.\. code-block::(.*)|(?! *\.\. ).*::)$", lines[i])
        i += 1
        if not m:
            continue
        body, indent = [], len(m.group(1))
        while i < len(lines) and (not lines[i].strip() or
                                  len(lines[i]) - len(lines[i].lstrip()) > indent):
            body.append(lines[i].strip())
            i += 1
        if not marked:
            yield (m.group(2) or "sh").strip(), [b for b in body if b and not b.startswith(":")]
        marked = False


def commands(page):
    """(command, what is typed into it)"""
    found = []
    for language, lines in blocks(page):
        if language not in ("sh", "console"):
            continue
        text = "\n".join(lines).replace("\\\n", " ")
        for line in text.split("\n"):
            if line.startswith("--> "):
                found[-1][1].append(line[4:])
            elif line.startswith(("testpmd> ", "(qemu) ")) or (
                    language == "console" and not line.startswith("# ")):
                continue
            else:
                found.append((line.removeprefix("# "), []))
    return found


def pages():
    return ["README"] + sorted(os.path.basename(p)[:-4]
                               for p in glob.glob(os.path.join(ROOT, "doc/*.rst"))
                               if commands(os.path.basename(p)[:-4]))


def has_vlan_devices():
    r = subprocess.run("unshare -n sh -c 'ip link add a type veth peer b; "
                       "ip link add link a name v type vlan id 1'", shell=True, check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return r.returncode == 0


class Session:
    """What one page's commands have started."""

    def __init__(self, place, namespace):
        self.place, self.running, self.namespaces = place, {}, []
        self.enter = inside(namespace)

    def move(self, text):
        """Paths that belong to the whole machine, to where the test may write."""
        return re.sub(r"(?<![\w.])/(tmp|run|mnt)/", f"{self.place}/", text)

    def adapt(self, command):
        command = self.move(command)
        config = re.search(r"--config (doc/\S+)", command)
        if config:
            path = os.path.join(self.place, os.path.basename(config[1]))
            with open(os.path.join(ROOT, config[1]), encoding="utf-8") as f:
                text = self.move(f.read())
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            command = command.replace(config[1], path)
        cpu = cpus()[command.startswith("dpdk-testpmd")]
        command = re.sub(r"(?<=\s)-l ([\d,-]+)", rf"--lcores '(\1)@{cpu}'", command)
        # "ip netns exec" remounts /sys, which fails in a chroot; the name is everybody's
        command = re.sub(r"ip netns exec (\w+)", r"nsenter --net=/run/netns/\1", command)
        command = re.sub(r"\bguest0\b", f"vsguest{os.getpid()}", command)
        if not re.search("^libvirt-qemu:", open("/etc/passwd", encoding="utf-8").read(), re.M):
            command = command.replace("libvirt-qemu", "nobody")
        command = re.sub(r"^(build/bench/copy) \d+ \d+", r"\1 {1} {0}".format(*cpus()), command)
        if re.match(r"(\./build/app/)?vhost-switch\b", command):
            rest = re.sub(r"^\S+", "", command)
            if "-p 0x1" in rest and "--vdev" not in rest:
                rest = " --vdev net_null0" + rest  # the machine has a card
            command = APP + ("" if "--no-pci" in rest else " --no-pci") + rest
        return command

    def start(self, kind, command, sign):
        """Run it on, and wait for a line that shows it at work."""
        self.end(kind)
        proc = subprocess.Popen([*self.enter, "sh", "-c",
                                 "exec " + command], cwd=ROOT, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = []
        reader = threading.Thread(target=lambda: [lines.append(x) for x in proc.stdout],
                                  daemon=True)
        reader.start()
        self.running[kind] = proc, lines, reader
        wait_for(lambda: any(sign in x for x in list(lines)) or proc.poll() is not None, 60,
                 f"'{sign}' of {command}")
        # a capture of so many frames may have them all by now
        assert proc.poll() is None or (kind, proc.returncode) == ("capture", 0), \
            command + "\n" + "".join(lines)
        return lines

    def end(self, kind):
        if kind == "switch":
            for other in [k for k in self.running if k != "switch"]:
                self.end(other)
        proc, lines, reader = self.running.pop(kind, (None, None, None))
        if proc is None:
            return
        proc.send_signal(signal.SIGINT)
        proc.wait(60)
        reader.join()
        text = "".join(lines)
        assert proc.returncode == 0, text
        if kind == "switch":
            assert "mbufs are back in pool mbufs" in text and "are missing" not in text, text

    def switch(self, command):
        os.makedirs(f"{self.place}/vhost-switch", exist_ok=True)
        self.start("switch", command, "worker 0 runs")

    def testpmd(self, command):
        self.need_switch()
        self.start("testpmd", command, "EAL: Detected")
        tap = re.search(r"net_tap\d,iface=(\w+)", command)
        if tap:  # sends nothing by itself; promiscuous is the last that becomes of it
            show = [*self.enter, "ip", "link", "show", tap[1]]
            wait_for(lambda: "PROMISC" in subprocess.run(show, check=False, text=True,
                                                         capture_output=True).stdout, 30, tap[1])
            return
        lines = self.running["switch"][1]
        guests = re.findall(r"path=([^,\s]+),mac=([0-9a-f:]+)", command)
        for path, mac in guests:  # at a named port its connection is all that is logged
            signs = (f"MAC_ADDRESS {mac}", f"guest connected by {path},") if any(
                f"port {os.path.basename(path)}: its guest" in x for x in list(lines)) else (
                f"MAC_ADDRESS {mac}",)
            wait_for(lambda s=signs: any(sign in x for x in list(lines) for sign in s), 30,
                     f"{mac} learned")
        if len(guests) > 1:  # they send to each other, as fast as they can
            wait_for(lambda: any(re.match(r"RX successful: +\d{5}", x) for x in list(lines)), 30,
                     "traffic")

    def qemu(self, command):
        """A guest that is no more than firmware: it asks for an address, and is known."""
        self.need_switch()
        self.start("qemu", command, "SeaBIOS")
        mac = re.search(r"mac=([0-9a-f:]+)", command).group(1)
        lines = self.running["switch"][1]
        wait_for(lambda: any(f"MAC_ADDRESS {mac} and VLAN_TAG" in x for x in list(lines)), 60,
                 f"{mac} learned")

    def need_switch(self):
        """A page may count on the one of the page before."""
        if "switch" not in self.running:
            self.switch(self.adapt("vhost-switch -l 1 --in-memory -- -p 0x0 "
                                   "--dev-basename /tmp/usvhost"))

    def run(self, command, typed):
        if command.split()[0] in ("tcpdump", "dpdk-dumpcap"):
            self.start("capture", command.replace("tcpdump ", "tcpdump -Z root -l "),
                       "listening on" if command.startswith("tcpdump") else "File:")
            return
        vlan = re.match(r"ip link add link (\S+) name (\S+) type vlan id (\d+)$", command)
        if vlan and not has_vlan_devices():
            self.start(vlan[2], f"tests/lib/vlan_device.py {vlan[2]} {vlan[1]} {vlan[3]}", "ready")
            return
        if "http.server" in command:
            self.start("server", command.replace("python3", "python3 -u"), "Serving HTTP")
            return
        if command.startswith("ip netns add"):
            self.namespaces.append(command.split()[-1])
        if command.startswith("dpdk-telemetry.py") or "| dpdk-telemetry.py" in command:
            self.need_switch()
            typed = typed + ["quit"] if typed else None
        if command.startswith(("apt ", "make")) and not command.startswith("make build/"):
            # what it would do; a file of the build that a page names is made, and used below it
            command = re.sub(r"^apt ", "apt-get -s ", re.sub(r"^make", "make -n", command))
        r = subprocess.run([*self.enter, "sh", "-euc", command], cwd=ROOT,
                           input="\n".join(typed) + "\n" if typed else "", timeout=100, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert r.returncode == 0, f"{command}\n{r.stdout}"
        if typed:
            for line in typed[:-1]:
                assert f'"{line.split(",")[0]}": {{' in r.stdout, r.stdout
        if "| dpdk-telemetry.py" in command:
            assert re.search(r'"/\w+/\w+": [{\["]', r.stdout), r.stdout


@pytest.fixture
def session(tmp_path, hugetlbfs):
    namespace = f"vsguide{os.getpid() % 10000}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    subprocess.run([*inside(namespace), "ip", "link", "add", "eth1", "up", "type", "veth", "peer",
                    "eth1far"], check=True)
    subprocess.run([*inside(namespace), "ip", "link", "set", "eth1far", "up"], check=True)
    s = Session(str(tmp_path), namespace)
    yield s
    try:
        s.end("switch")
    finally:
        for proc, _, _ in s.running.values():
            proc.kill()
        for name in [namespace, *s.namespaces]:
            subprocess.run(["ip", "netns", "del", name], check=True)
        for line in open("/proc/mounts", encoding="ascii"):
            if line.split()[1].startswith(str(tmp_path)) and line.split()[1] != hugetlbfs:
                subprocess.run(["umount", line.split()[1]], check=True)


def of_tests(guest, seconds=0.5):
    """What a guest gets of the tests: the kernel's own (neighbour discovery) come as well."""
    end, out = time.monotonic() + seconds, []
    while time.monotonic() < end:
        out += [f for f in guest.poll() if f[12:14] == b"\x88\xb5"]
    return out


def check_lan(session):
    """What the page is for: both guests and the LAN reach each other, and no frame comes twice."""
    log = session.running["switch"][1]
    guests = [Guest(f"{session.place}/usvhost", f"52:54:00:00:00:0{i}") for i in (1, 2)]
    for g in guests:
        g.announce()
        wait_for(lambda m=g.mac.hex(":"): any(f"MAC_ADDRESS {m}" in x for x in list(log)), 20)
    first, second = guests
    of_tests(first), of_tests(second)  # of these broadcasts
    lan = session.start("capture", "tcpdump -Z root -l -n -e -i eth1far ether proto 0x88b5",
                        "listening on")
    first.announce()
    assert [f[6:12] for f in of_tests(second)] == [first.mac]
    first.send([first.frame(second, b"to the other")])
    assert [f[:6] for f in of_tests(second)] == [second.mac]
    assert not of_tests(first, 0.2)  # nothing of its own comes back
    seen = [line for line in list(lan) if f"{first.mac.hex(':')} > ff:ff:ff:ff:ff:ff" in line]
    assert len(seen) == 1 and "802.1Q" not in seen[0], lan
    for g in guests:
        g.close()


CHECKS = {"lan": check_lan}


@pytest.mark.parametrize("page", pages())
def test_commands_of(page, session):
    done = 0
    for command, typed in commands(page):
        if re.search(ELSEWHERE.get(page, "(?!)"), command):
            continue
        command = session.adapt(command)
        if command.startswith(APP):
            session.switch(command)
        elif command.startswith("dpdk-testpmd"):
            session.testpmd(command)
        elif command.startswith("qemu-system"):
            session.qemu(command)
        else:
            session.run(command, typed)
        done += 1
    CHECKS.get(page, lambda session: None)(session)
    print(f"{done} commands")
