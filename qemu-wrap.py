#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Start QEMU with its network cards attached to vhost-switch instead of the kernel's vhost-net.

usage: qemu-wrap.py QEMU-ARGS

It takes the command line of QEMU, from a shell or as libvirt's <emulator>, changes what has to be
changed for each "-netdev tap" that has vhost, and becomes QEMU:

- The switch's character device is opened, and the netdev gets vhost=on,vhostfd=N; a descriptor of
  the kernel's vhost-net that was there makes way. Is the switch's a socket, the netdev becomes
  "-chardev socket" and "-netdev vhost-user" with the same id.
- The virtio-net "-device" of that netdev gets csum=off, gso=off, guest_tso4=off, guest_tso6=off and
  guest_ecn=off, each unless it is there.
- Guest memory becomes shared memory that the switch can map: of hugepages where a hugetlbfs is
  mounted (-mem-path, -mem-prealloc), else a memfd. Memory that is shared already is left alone.

All else is passed on as it is. Calls that start no guest (-version, -help, "-device help",
"-machine none") are passed on unchanged.

The settings are at the top of the file. The environment goes before them: QEMU_WRAP_EMUL_PATH, and
so on for each name in capitals.

emul_path (/usr/bin/qemu-system-x86_64)
   The QEMU to start.

us_vhost_path (/dev/usvhost)
   Device of a vhost-switch with CUSE, or its vhost-user socket.

hugetlbfs_dir (empty)
   Folder of a hugetlbfs for guest memory. Empty: of those in /proc/mounts that may be written the
   first with enough free pages, else the first that has pages at all.

emul_opts_user (empty)
   More options for each guest, in the quoting of a shell.

emul_opts_user_vhost (empty)
   More options for each guest with vhost, in the quoting of a shell.

use_huge_all (0)
   1: guests without vhost get their memory of hugepages too.
"""

import json
import os
import re
import shlex
import stat
import sys

emul_path = "/usr/bin/qemu-system-x86_64"
us_vhost_path = "/dev/usvhost"
hugetlbfs_dir = ""
emul_opts_user = ""
emul_opts_user_vhost = ""
use_huge_all = 0

SETTINGS = ("emul_path", "us_vhost_path", "hugetlbfs_dir", "emul_opts_user", "emul_opts_user_vhost",
            "use_huge_all")
MOUNTS = "/proc/mounts"
POOLS = "/sys/kernel/mm/hugepages"
VHOST_NET = os.makedev(10, 238)  # linux/miscdevice.h, VHOST_NET_MINOR
MEMORY_ID = "us-vhost-memory"
OFFLOADS = ("csum", "gso", "guest_tso4", "guest_tso6", "guest_ecn")

# Options that print what there is and end when their value is "help".
LISTING = ("accel", "audio", "chardev", "cpu", "d", "device", "display", "global", "M", "machine",
           "netdev", "nic", "object", "trace", "vga")

# What the first word of a value is when it stands without a name.
FIRST = {"netdev": "type", "device": "driver", "object": "qom-type", "machine": "type", "M": "type",
         "m": "size", "numa": "type"}


class Failure(Exception):
    """What ends the wrapper, as one line for stderr."""


def warn(text):
    print("qemu-wrap.py: " + text, file=sys.stderr)


class Value:
    """The value of an option, "tap,id=a,vhost=on" or JSON, to be looked into and changed.

    What is not changed comes out as it went in: a doubled comma, an order, a key given twice.
    """

    def __init__(self, text, first):
        self.json, self.words, self.first = None, [], first
        if text.lstrip().startswith("{"):
            try:
                self.json = json.loads(text)
            except ValueError:
                self.json = {}  # QEMU will tell
            self.text = text
            return
        # an argument has no NUL, so it can stand for a comma that separates nothing
        for i, word in enumerate(text.replace(",,", "\0").split(",")):
            key, equals, value = word.partition("=")
            if not equals:
                key, value = (first, word) if i == 0 else (key, "on")
            self.words.append((key, value.replace("\0", ","), word.replace("\0", ",,")))

    def get(self, key):
        """As text, or None; of a key that is there twice the last."""
        if self.json is not None:
            value = self.json.get(key)
            if isinstance(value, bool):
                return "on" if value else "off"
            return None if value is None else str(value)
        return next((v for k, v, _ in reversed(self.words) if k == key), None)

    def on(self, key):
        """Whether a switch is on; None when it is not given."""
        value = self.get(key)
        return None if value is None else value in ("on", "yes", "true", "y")

    def clear(self):
        if self.json is not None:
            self.json, self.text = {}, None
        self.words = []

    def remove(self, *keys):
        if self.json is not None:
            for key in keys:
                self.json.pop(key, None)
            self.text = None
        self.words = [w for w in self.words if w[0] not in keys]

    def set(self, key, value):
        """value: text, a number or a bool. Where the key is there already its place is kept."""
        if self.json is not None:
            self.json[key] = value
            self.text = None
            return
        value = ("on" if value else "off") if isinstance(value, bool) else str(value)
        at = next((i for i, w in enumerate(self.words) if w[0] == key), len(self.words))
        self.remove(key)
        name = "" if at == 0 and key == self.first else key + "="
        self.words.insert(at, (key, value, name + value.replace(",", ",,")))

    def __str__(self):
        if self.json is None:
            return ",".join(raw for _, _, raw in self.words)
        return self.text if self.text is not None else json.dumps(self.json, separators=(",", ":"))


class Arguments:
    """A command line of QEMU: a list in which a Value stands wherever one is understood."""

    def __init__(self, args):
        self.list = []
        option = None
        for arg in args:
            if option in FIRST:
                self.list.append(Value(arg, FIRST[option]))
                option = None
            else:
                self.list.append(arg)
                option = self._name(arg)

    @staticmethod
    def _name(arg):
        return re.sub("^--?", "", arg) if isinstance(arg, str) and arg.startswith("-") else None

    def has(self, name):
        return any(self._name(a) == name for a in self.list)

    def values(self, *names):
        """The values of all options of these names."""
        return [v for a, v in zip(self.list, self.list[1:]) if self._name(a) in names]

    def add(self, *args):
        self.list += args

    def before(self, value, *args):
        """Put arguments before the option that has this value."""
        at = next(i for i, a in enumerate(self.list) if a is value) - 1
        self.list[at:at] = args

    def starts_no_guest(self):
        if self.has("h") or self.has("help") or self.has("version"):
            return True
        if any(v.get("type") == "none" for v in self.values("machine", "M")):
            return True
        return any(re.search(r"(^|,)(help|\?)$", str(v)) for v in self.values(*LISTING))

    def __iter__(self):
        return (str(a) for a in self.list)


def us_vhost_is_socket():
    try:
        return stat.S_ISSOCK(os.stat(us_vhost_path).st_mode)
    except OSError:
        return False


def open_us_vhost():
    """One more open of the device, so one more guest; QEMU inherits the descriptor."""
    try:
        fd = os.open(us_vhost_path, os.O_RDWR)
    except OSError as e:
        raise Failure(f"us_vhost_path {us_vhost_path}: {e.strerror}; does vhost-switch run?") from e
    os.set_inheritable(fd, True)
    return fd


def is_other_device(fd):
    """Whether the caller has opened a character device that is not the kernel's vhost-net.

    That is the switch's then: libvirt opens it so, by <backend vhost='...'/>, and where QEMU runs
    there may be no such path.
    """
    try:
        st = os.fstat(int(fd))
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(st.st_mode) and st.st_rdev != VHOST_NET


def has_vhost(netdev):
    """Whether it is a tap that would use vhost, by the rules of QEMU."""
    if netdev.get("type") != "tap":
        return False
    on = netdev.on("vhost")
    if on is None:
        on = bool(netdev.get("vhostfd") or netdev.get("vhostfds") or netdev.on("vhostforce"))
    return on


def queue_pairs(netdev):
    for key in ("vhostfds", "fds"):
        if netdev.get(key):
            return netdev.get(key).count(":") + 1
    queues = netdev.get("queues") or ""
    return int(queues) if queues.isdigit() else 1


def attach_by_device(netdev):
    given = (netdev.get("vhostfds") or netdev.get("vhostfd") or "").split(":")
    netdev.set("vhost", True)
    if all(is_other_device(fd) for fd in given):
        return
    n = queue_pairs(netdev)
    netdev.remove("vhostfd", "vhostfds")
    fds = [str(open_us_vhost()) for _ in range(n)]
    netdev.set("vhostfd" if n == 1 else "vhostfds", ":".join(fds))


def attach_by_socket(args, netdev):
    name, n = netdev.get("id") or "", queue_pairs(netdev)
    chardev = f"us-vhost-{name}"
    netdev.clear()
    netdev.set("type", "vhost-user")
    netdev.set("id", name)
    netdev.set("chardev", chardev)
    if n > 1:
        netdev.set("queues", n)
    args.before(netdev, "-chardev", f"socket,id={chardev},path={us_vhost_path.replace(',', ',,')}")


def offloads_off(args, ids):
    """A frame comes to the switch as it goes to the wire: its checksum and its length final."""
    for device in args.values("device"):
        if device.get("netdev") in ids and (device.get("driver") or "").startswith("virtio-net"):
            for key in OFFLOADS:
                if device.get(key) is None:
                    device.set(key, False)


def memory_size(args):
    """Bytes, as -m says it: MiB where it has no suffix, and QEMU's 128 MiB where there is none."""
    text = "128"
    for value in args.values("m"):
        text = value.get("size") or text
    m = re.fullmatch(r"(0[xX][0-9a-fA-F]+|[0-9]*\.?[0-9]+)([bBkKmMgGtT]?)", text.strip())
    if not m:
        raise Failure(f"-m {text}: no size of memory")
    unit = 1 << 10 * "BKMGT".index(m.group(2).upper() or "M")
    number = int(m.group(1), 16) if m.group(1)[:2] in ("0x", "0X") else float(m.group(1))
    return -(-int(number * unit) // 8192) * 8192  # as QEMU rounds it


def size_text(size):
    return f"{size >> 20}M" if size % (1 << 20) == 0 else str(size)


def hugepage_pool(folder):
    """What a hugetlbfs has: bytes of a page, bytes free, bytes in all."""
    def size(name):
        with open(f"{POOLS}/hugepages-{page >> 10}kB/{name}", encoding="ascii") as f:
            return int(f.read()) * page

    try:
        page = os.statvfs(folder).f_bsize
        spare = size("nr_overcommit_hugepages")
        return page, size("free_hugepages") + spare, size("nr_hugepages") + spare
    except OSError:
        return 0, 0, 0


def hugepage_folder(size):
    """Where a hugetlbfs for that many bytes is mounted, or None."""
    if hugetlbfs_dir:
        return hugetlbfs_dir
    first = None
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as f:
        mounts = [line.split() for line in f]
    for _, folder, kind, *_ in mounts:
        if kind != "hugetlbfs":
            continue
        folder = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), folder)
        page, free, total = hugepage_pool(folder)
        if not total or page > size or not os.access(folder, os.W_OK):
            continue
        if free >= size:
            return folder
        first = first or folder
    return first


def share(backend):
    """See that a memory backend is shared and has a file that the switch can map."""
    kind, shared = backend.get("qom-type"), backend.on("share")
    name = f"{kind} {backend.get('id')}"
    if shared is False:
        warn(f"{name} has share=off: the switch will refuse this guest's memory")
    elif kind == "memory-backend-ram":
        backend.set("qom-type", "memory-backend-memfd")
        backend.set("share", True)
    elif kind == "memory-backend-file" and shared is None:
        # a file with content may be a template, which the guest must not write to
        if os.path.isfile(backend.get("mem-path") or ""):
            warn(f"{name} has no share=on: the switch will refuse this guest's memory")
        else:
            backend.set("share", True)


def has_memory_backend(args):
    return any(v.get("memory-backend") for v in args.values("machine", "M"))


def share_memory(args):
    """Guest memory that the switch can map, with as few changes as will do."""
    nodes = [n for n in args.values("numa") if n.get("type") == "node"]
    ids = [v.get("memory-backend") for v in args.values("machine", "M")]
    ids += [n.get("memdev") for n in nodes]
    ids += [d.get("memdev") for d in args.values("device") if d.get("driver") == "pc-dimm"]
    for backend in args.values("object"):
        if backend.get("id") in ids and backend.get("id"):
            share(backend)
    if has_memory_backend(args):
        return
    if nodes:
        if not all(n.get("memdev") for n in nodes):
            warn("a -numa node has no memdev=: the switch will refuse this guest's memory")
        return
    size = memory_size(args)
    # -mem-path alone is private memory, and goes with -numa but not with -machine memory-backend
    given = args.values("mem-path")
    folder = given[-1] if given else hugepage_folder(size)
    if folder:
        huge_memory(args, folder)
        path = folder.replace(",", ",,")
        args.add("-object", f"memory-backend-file,id={MEMORY_ID},size={size_text(size)},"
                 f"mem-path={path},share=on", "-numa", f"node,memdev={MEMORY_ID}")
    else:
        args.add("-object", f"memory-backend-memfd,id={MEMORY_ID},size={size_text(size)},share=on",
                 "-machine", f"memory-backend={MEMORY_ID}")


def huge_memory(args, folder):
    if not args.has("mem-path"):
        args.add("-mem-path", folder)
    if not args.has("mem-prealloc"):
        args.add("-mem-prealloc")


def user_options(name):
    try:
        return shlex.split(globals()[name])
    except ValueError as e:
        raise Failure(f"{name}: {e}") from e


def wrap(argv):
    """The command line for QEMU, without its name, from the one that was given."""
    if Arguments(argv).starts_no_guest():
        return list(argv)
    vhost = any(has_vhost(v) for v in Arguments(argv).values("netdev"))
    args = Arguments([*argv, *(user_options("emul_opts_user_vhost") if vhost else ()),
                      *user_options("emul_opts_user")])
    if vhost:
        netdevs = [v for v in args.values("netdev") if has_vhost(v)]
        ids = {v.get("id") for v in netdevs} - {None}
        by_socket = us_vhost_is_socket()
        for netdev in netdevs:
            if by_socket:
                attach_by_socket(args, netdev)
            else:
                attach_by_device(netdev)
        offloads_off(args, ids)
        share_memory(args)
    elif str(use_huge_all) not in ("0", "") and not has_memory_backend(args):
        folder = hugepage_folder(memory_size(args))
        if folder:
            huge_memory(args, folder)
    return list(args)


def main():
    if sys.argv[1:] == ["--help"]:
        print(__doc__.strip())
        return 0
    for name in SETTINGS:
        globals()[name] = os.environ.get("QEMU_WRAP_" + name.upper(), globals()[name])
    try:
        args = wrap(sys.argv[1:])
    except Failure as e:
        warn(str(e))
        return 1
    try:
        # The process stays the one that was started: signals and exit status are QEMU's own.
        os.execv(emul_path, [emul_path, *args])
    except OSError as e:
        warn(f"emul_path {emul_path}: {e.strerror}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
