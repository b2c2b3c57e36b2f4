# SPDX-License-Identifier: BSD-3-Clause
"""The example domains of doc/examples: valid, and started by Debian's libvirt.

virt-qemu-run is libvirt's QEMU driver in one process, with all of its files in one folder: no
daemon, nothing of the machine is touched. QEMU runs as the user libvirt-qemu, which libnss-wrapper
makes up. The guest is QEMU's firmware, which asks for an address by DHCP; a guest of the test
answers.
"""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

import pytest

from harness import ROOT, Switch, wait_for
from vhostuser import Guest

EXAMPLES = sorted(glob.glob(os.path.join(ROOT, "doc/examples/*.xml")))
QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
QEMU_USER = 64055  # Debian's number of libvirt-qemu

QEMU_CONF = """
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
remember_owner = 0
"""

# libvirt waits until a QEMU has gone from the table of processes. It is nobody's child, so somebody
# has to collect it at once.
REAPER = """
import ctypes, os, signal, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
child = os.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
while True:
    pid, status = os.wait()
    if pid == child:
        sys.exit(os.waitstatus_to_exitcode(status))
"""

# In the place of QEMU: tells how it was started, and goes on as QEMU if there is a file "go".
RECORDER = """#!/usr/bin/python3
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
fds = {fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
       if os.path.lexists("/proc/self/fd/" + fd)}
with open(here + "/started.new", "w") as f:
    json.dump([sys.argv, fds], f)
os.rename(here + "/started.new", here + "/started")
if os.path.exists(here + "/go"):
    os.execv("/usr/bin/qemu-system-x86_64", sys.argv)
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=os.path.basename)
def test_examples_are_valid(path):
    r = subprocess.run(["virt-xml-validate", path, "domain"], capture_output=True, text=True,
                       check=False)
    assert r.returncode == 0, r.stdout + r.stderr


def test_validation_can_fail(tmp_path):
    bad = tmp_path / "bad.xml"
    with open(EXAMPLES[0], encoding="utf-8") as f:
        bad.write_text(f.read().replace("<vcpu>", "<vpcu>").replace("</vcpu>", "</vpcu>"))
    assert subprocess.run(["virt-xml-validate", bad, "domain"], capture_output=True,
                          check=False).returncode != 0


class Libvirt:
    """virt-qemu-run, in a folder with a short name: it makes sockets below."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="vs-lv-")
        os.chmod(self.dir, 0o755)
        self.root = os.path.join(self.dir, "root")
        self.proc = None
        os.makedirs(os.path.join(self.root, "etc"))
        self.write("root/etc/qemu.conf", QEMU_CONF)
        user = f"{QEMU_USER}:{QEMU_USER}::/:/bin/false"
        for file, names in (("passwd", [("libvirt-qemu", user)]),
                            ("group", [("libvirt-qemu", f"{QEMU_USER}:"), ("kvm", "64056:")])):
            with open("/etc/" + file, encoding="utf-8") as f:
                text = f.read()
            for name, rest in names:
                if not re.search(f"^{name}:", text, re.M):
                    text += f"{name}:x:{rest}\n"
            self.write(file, text)
        os.makedirs(self.path("qemu"))
        os.chown(self.path("qemu"), QEMU_USER, QEMU_USER)
        self.write("qemu/recorder", RECORDER, 0o755)
        # QEMU's user may not see into the tree
        shutil.copy(os.path.join(ROOT, "qemu-wrap.py"), self.path("qemu-wrap.py"))

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(name), mode)

    def start(self, domain):
        ET.register_namespace("qemu", QEMU_NS)
        domain.write(self.path("domain.xml"))
        env = dict(os.environ, LD_PRELOAD="libnss_wrapper.so", NSS_WRAPPER_GROUP=self.path("group"),
                   NSS_WRAPPER_PASSWD=self.path("passwd"))
        with open(self.path("output"), "w", encoding="utf-8") as out:
            self.proc = subprocess.Popen(
                [sys.executable, "-c", REAPER, "virt-qemu-run", "-v", "-r", self.root,
                 self.path("domain.xml")], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env=env)

    def started(self):
        """How QEMU was started, once it was: arguments and descriptors."""
        path = self.path("qemu/started")
        wait_for(lambda: os.path.exists(path) or self.proc.poll() is not None, 60, "QEMU")
        assert os.path.exists(path), self.log()
        with open(path, encoding="utf-8") as f:
            return json.load(f)

    def log(self):
        out = ""
        for path in (self.path("output"), *glob.glob(self.root + "/log/qemu/*.log")):
            with open(path, encoding="utf-8", errors="replace") as f:
                out += f.read()
        return out

    def close(self):
        if self.proc:
            if self.proc.poll() is None:
                self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(30)
        shutil.rmtree(self.dir)


@pytest.fixture
def libvirt(request):
    if os.getuid() != 0:
        pytest.skip("libvirt starts QEMU as another user")
    lv = Libvirt()
    yield lv
    lv.close()


def example(name, kind="qemu"):
    """An example as it is tested: by TCG, from the network, without the disk."""
    tree = ET.parse(os.path.join(ROOT, "doc/examples", name))
    domain = tree.getroot()
    domain.set("type", kind)
    domain.find("memory").text = "128"
    domain.find("vcpu").text = "1"
    domain.find("devices").remove(domain.find("devices/disk"))
    ET.SubElement(domain.find("os"), "boot", dev="network")
    return tree


def override(tree):
    """The one of the guide, for domains without KVM."""
    with open(os.path.join(ROOT, "doc/libvirt.rst"), encoding="utf-8") as f:
        text = re.search(r"<qemu:override>.*</qemu:override>", f.read(), re.S).group()
    tree.getroot().append(ET.fromstring(text.replace(
        "<qemu:override>", f"<qemu:override xmlns:qemu='{QEMU_NS}'>")))


def commandline(tree, *args, **env):
    element = ET.SubElement(tree.getroot(), f"{{{QEMU_NS}}}commandline")
    for arg in args:
        ET.SubElement(element, f"{{{QEMU_NS}}}arg", value=arg)
    for name, value in env.items():
        ET.SubElement(element, f"{{{QEMU_NS}}}env", name=name, value=value)


def lease(guest, mac, libvirt, timeout=60):
    """Answer the DHCP requests of mac until it asks for the address it was offered."""
    from scapy.all import BOOTP, DHCP, IP, UDP, Ether, raw
    me, client, asked = "192.0.2.1", "192.0.2.77", None
    chaddr = bytes.fromhex(mac.replace(":", ""))
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        assert libvirt.proc.poll() is None, libvirt.log()
        time.sleep(0.02)
        for frame in guest.poll():
            p = Ether(frame)
            if DHCP not in p:
                continue
            assert p.src == mac and p[BOOTP].chaddr[:6] == chaddr
            options = dict(o for o in p[DHCP].options if isinstance(o, tuple) and len(o) == 2)
            if options["message-type"] == 3 and options.get("requested_addr") == client:
                return
            asked = asked or guest.announce() or True  # an answer only comes from a known MAC
            guest.send([raw(
                Ether(src=guest.mac, dst=p.src) / IP(src=me, dst="255.255.255.255") /
                UDP(sport=67, dport=68) /
                BOOTP(op=2, xid=p[BOOTP].xid, yiaddr=client, siaddr=me, chaddr=p[BOOTP].chaddr) /
                DHCP(options=[("message-type", "offer"), ("server_id", me), ("lease_time", 600),
                              ("subnet_mask", "255.255.255.0"), "end"]))])
    raise TimeoutError(f"no DHCP\n{libvirt.log()}")


def libvirt_switch(**kw):
    return Switch("--socket-owner", f"{QEMU_USER}", "--socket-mode", "0600", **kw)


def enter(switch):
    """The test's own guest, known to the switch before the other comes."""
    os.chmod(switch.dir, 0o755)
    guest = Guest(switch.sock, "02:00:00:00:00:0b")
    switch.wait_guests(1)
    guest.announce()
    return guest


def test_a_vhostuser_interface(libvirt):
    """And it comes back by itself when the switch does. Without KVM, so as the guide says then."""
    tree = example("vhost-user.xml")
    override(tree)
    mac = tree.find("devices/interface/mac").get("address")
    run = libvirt.path("run")
    os.mkdir(run)
    with libvirt_switch(cwd=run) as s:
        b = enter(s)
        tree.find("devices/interface/source").set("path", s.sock)
        libvirt.start(tree)
        lease(b, mac, libvirt)
        nic = re.search(r'\{"driver":"virtio-net-pci".*?\}', libvirt.log()).group()
        assert json.loads(nic)["vectors"] == 0 and json.loads(nic)["mac"] == mac
        s.wait_log(f"MAC_ADDRESS {mac} and VLAN_TAG 1001 registered")
        b.close()
    with libvirt_switch(cwd=run) as s:
        wait_for(lambda: s.has(f"MAC_ADDRESS {mac} and VLAN_TAG 1000 registered"), 60,
                 "the guest of before")
        libvirt.proc.send_signal(signal.SIGTERM)
        s.wait_guests(0)


def test_the_wrapper_as_emulator(libvirt):
    """The whole way, with the socket in the place of the device: this kernel need not have CUSE.

    libvirt gives vhost to interfaces of KVM guests alone, so here the card is one of
    <qemu:commandline>.
    """
    tree = example("qemu-wrap.xml")
    mac = "52:54:00:00:00:02"
    devices = tree.find("devices")
    devices.remove(devices.find("interface"))
    devices.find("emulator").text = libvirt.path("qemu-wrap.py")
    libvirt.write("qemu/go", "")
    with libvirt_switch() as s:
        b = enter(s)
        commandline(tree, "-netdev", "tap,id=net9,ifname=unused,vhost=on", "-device",
                    f"virtio-net-pci,netdev=net9,mac={mac},bus=pcie.0,addr=0x10,bootindex=1",
                    QEMU_WRAP_EMUL_PATH=libvirt.path("qemu/recorder"),
                    QEMU_WRAP_US_VHOST_PATH=s.sock)
        libvirt.start(tree)
        args, _ = libvirt.started()
        assert "vhost-user,id=net9,chardev=us-vhost-net9" in args
        assert f"socket,id=us-vhost-net9,path={s.sock}" in args
        lease(b, mac, libvirt)
        libvirt.proc.send_signal(signal.SIGTERM)
        s.wait_guests(1)
        b.close()


def kvm():
    """Whether libvirt will take a KVM domain: QEMU must start with it, though no guest need run."""
    return subprocess.run(["qemu-system-x86_64", "-accel", "kvm", "-machine", "none", "-display",
                           "none", "-S", "-monitor", "stdio", "-nodefaults"], input=b"quit\n",
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def test_the_wrapper_gets_libvirts_descriptor(libvirt):
    """The example as it is, but for the device: up to the start of QEMU, which needs CUSE."""
    if not kvm():
        pytest.skip("libvirt gives vhost to KVM guests alone")
    tree = example("qemu-wrap.xml", "kvm")
    tree.find("devices/emulator").text = libvirt.path("qemu-wrap.py")
    tree.find("devices/interface/backend").set("vhost", "/dev/zero")
    mac = tree.find("devices/interface/mac").get("address")
    commandline(tree, QEMU_WRAP_EMUL_PATH=libvirt.path("qemu/recorder"))
    libvirt.start(tree)
    args, fds = libvirt.started()
    options = [json.loads(b) | {"option": a} for a, b in zip(args, args[1:])
               if a in ("-netdev", "-device", "-object") and b.startswith("{")]
    netdev, = (o for o in options if o["option"] == "-netdev")
    assert netdev["type"] == "tap" and netdev["vhost"] is True
    assert fds[netdev["vhostfd"]] == "/dev/zero" and fds[netdev["fd"]] == "/dev/net/tun"
    nic, = (o for o in options if o.get("netdev") == netdev["id"])
    assert nic["mac"] == mac
    assert [nic[k] for k in ("csum", "gso", "guest_tso4", "guest_tso6", "guest_ecn")] == 5 * [False]
    memory, = (o for o in options if o.get("id") == "pc.ram")
    assert memory["qom-type"] == "memory-backend-memfd" and memory["share"] is True
    assert memory["size"] == 128 << 20
    libvirt.proc.wait(60)
