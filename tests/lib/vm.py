# SPDX-License-Identifier: BSD-3-Clause
"""Small Linux VMs: Debian's kernel and a busybox initramfs under QEMU, on a vhost-user socket.

The kernel package is downloaded and unpacked below build/, never installed. A VM runs the shell
script that it is given on its kernel command line's initramfs, prints to its serial console, and
powers off. QEMU runs under TCG, which works everywhere.
"""

import fcntl
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from tree import ROOT

CACHE = os.path.join(ROOT, "build/vm")

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for m in $(cat /modules/order); do insmod /modules/$m; done
ip link set lo up
. /script
poweroff -f
"""

# What a script begins with whose VM has a network card.
ETH0_UP = """
i=0; while [ ! -e /sys/class/net/eth0 ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
ip link set eth0 up
"""

NET_MODULES = ["failover", "net_failover", "virtio_ring", "virtio", "virtio_pci_modern_dev",
           "virtio_pci_legacy_dev", "virtio_pci", "virtio_net"]


def run(*args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True, **kw).stdout


def kernel_package():
    arch = run("dpkg", "--print-architecture").strip()
    meta = "linux-image-cloud-amd64" if arch == "amd64" else f"linux-image-{arch}"
    depends = run("apt-cache", "depends", "--no-recommends", "--no-suggests", meta)
    return re.search(r"Depends: (linux-image-[0-9]\S+)", depends).group(1)


def download(package, say):
    """A package as a file in CACHE; on a terminal apt shows how far it is."""
    size = int(run("apt-get", "-qq", "download", "--print-uris", package).split()[2])
    say(f"downloading {package}: {size / 1e6:.0f} MB")
    quiet = [] if sys.stdout.isatty() else ["-qq"]
    # root's apt drops its privileges for a download, which needs a folder it can write
    subprocess.run(["apt-get", *quiet, "-o", "APT::Sandbox::User=root", "download", package],
                   cwd=CACHE, check=True, stdout=None if not quiet else subprocess.DEVNULL)
    return glob.glob(os.path.join(CACHE, f"{package}_*.deb"))[0]


@contextmanager
def one_at_a_time():
    """Tests may run beside each other, and apt may not."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def kernel(say=lambda text: None):
    """Path of a bootable kernel and of its modules, unpacked from Debian's package."""
    tree = os.path.join(CACHE, "kernel")
    with one_at_a_time():
        if not glob.glob(os.path.join(tree, "boot/vmlinuz-*")):
            run("apt-get", "-qq", "update")
            deb = download(kernel_package(), say)
            run("dpkg-deb", "-x", deb, tree)
            os.unlink(deb)
    return glob.glob(os.path.join(tree, "boot/vmlinuz-*"))[0], glob.glob(
        os.path.join(tree, "lib/modules/*"))[0]


def kernel_module(source):
    """Build a module of this tree for that kernel; returns the path of its .ko."""
    release = os.path.basename(kernel()[1])
    headers = f"/lib/modules/{release}/build"
    with one_at_a_time():
        if not os.path.exists(headers):
            run("apt-get", "-qq", "-y", "--no-install-recommends", "install",
                f"linux-headers-{release}", env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
    place = os.path.join(ROOT, "build", source)
    shutil.copytree(os.path.join(ROOT, source), place, dirs_exist_ok=True)
    run("make", "-C", place, f"KDIR={headers}", "all")
    return os.path.join(place, source + ".ko")


def copy_file(name, root):
    """A file, and as links what leads to it: two copies of one library may not be loaded."""
    # /lib is a link to usr/lib
    name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    if os.path.lexists(root + name):
        return
    os.makedirs(os.path.dirname(root + name), exist_ok=True)
    if os.path.islink(name):
        os.symlink(os.readlink(name), root + name)
        copy_file(os.path.join(os.path.dirname(name), os.readlink(name)), root)
    else:
        shutil.copy(name, root + name)


def copy_program(path, root):
    """A program, or library, and the libraries it is linked with."""
    for name in [path, *re.findall(r"(/\S+) \(0x", run("ldd", path))]:
        copy_file(name, root)


def initramfs(name, script, programs=(), modules=NET_MODULES, fill=None):
    """Build one; returns its path. name tells it from others that are used at the same time.

    programs are copied with their libraries; fill is called with the path of the tree, to put more
    into it.
    """
    _, module_tree = kernel()
    root = os.path.join(CACHE, os.environ.get("PYTEST_XDIST_WORKER", ""), name)
    shutil.rmtree(root, ignore_errors=True)
    for d in ("usr/bin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "tmp", "run", "modules",
              "etc"):
        os.makedirs(os.path.join(root, d))
    for d in ("bin", "lib", "lib64"):
        os.symlink("usr/" + d, os.path.join(root, d))
    shutil.copy("/bin/busybox", os.path.join(root, "bin/busybox"))
    order = []
    for m in modules:
        for path in glob.glob(os.path.join(module_tree, "kernel/**", m + ".ko*"), recursive=True):
            base = os.path.basename(path)
            shutil.copy(path, os.path.join(root, "modules", base))
            if base.endswith(".xz"):
                run("xz", "-d", os.path.join(root, "modules", base))
                base = base[:-3]
            order.append(base)
    for file, text in (("modules/order", "\n".join(order) + "\n"), ("init", INIT),
                       ("script", script), ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n")):
        with open(os.path.join(root, file), "w", encoding="utf-8") as f:
            f.write(text)
    os.chmod(os.path.join(root, "init"), 0o755)
    for program in programs:
        copy_program(shutil.which(program), root)
    if fill:
        fill(root)
    image = root + ".cpio"
    with open(image, "wb") as out:
        find = subprocess.Popen(["find", "."], cwd=root, stdout=subprocess.PIPE)
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, stdin=find.stdout,
                       stdout=out, check=True)
        find.wait()
    shutil.rmtree(root)
    return image


class Vm:
    """One running VM; every line of its console goes to say().

    With sock its network card is a vhost-user device there; without it has none. chardev is added
    to the socket's options, netdev and device to those of the card's two halves, append to the
    kernel's command line.
    """

    def __init__(self, name, script, sock=None, mac=None, programs=(), device="", cpus="",
                 memory=256, say=None, smp=1, modules=None, fill=None, extra=(), chardev="",
                 append="", netdev=""):
        vmlinuz, _ = kernel()
        if modules is None:
            modules = NET_MODULES if sock else []
        image = initramfs(name, (ETH0_UP if sock else "") + script, programs, modules, fill)
        args = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max",
                "-m", str(memory), "-smp", str(smp), "-nodefaults", "-display", "none",
                "-no-reboot", "-serial", "stdio", "-kernel", vmlinuz, "-initrd", image,
                "-append", "console=ttyS0 quiet mitigations=off panic=-1 random.trust_cpu=on "
                + append]
        if sock:
            args += [
                "-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on",
                "-machine", "memory-backend=mem",
                "-chardev", f"socket,id=chr,path={sock}{chardev}",
                "-netdev", f"vhost-user,id=net,chardev=chr{netdev}",
                # vectors=0: QEMU 7.2 under TCG fails when virtio-net over vhost uses MSI-X
                "-device", f"virtio-net-pci,netdev=net,mac={mac},romfile=,vectors=0{device}"]
        args += extra
        if cpus:
            args = ["taskset", "-c", cpus, *args]
        self.name, self.lines, self.say = name, [], say
        self.proc = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, errors="replace")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.proc.stdout:
            line = re.sub(r"\x1b[^a-zA-Z]*[a-zA-Z]|[\x00-\x08\x0b-\x1f]", "", line).strip()
            if not line:
                continue
            self.lines.append(line)
            if self.say:
                self.say(self.name, line)

    def has(self, text):
        return any(text in line for line in list(self.lines))

    def log(self):
        return "\n".join(f"{self.name}: {line}" for line in list(self.lines))

    def wait(self, timeout):
        self.proc.wait(timeout)
        self.reader.join()

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()


class Qmp:
    """A talk with a QEMU that was started with -qmp unix:PATH,server=on,wait=off."""

    def __init__(self, path, timeout=60):
        end = time.monotonic() + timeout
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        while self.sock.connect_ex(path) != 0:
            if time.monotonic() > end:
                raise TimeoutError(f"no QEMU at {path}")
            time.sleep(0.1)
        self.lines = self.sock.makefile()
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.lines.close()
        self.sock.close()
