# SPDX-License-Identifier: BSD-3-Clause
"""The CUSE way in. It takes a kernel with CUSE and modules: Debian's, in a VM.

One VM runs tests/vm/inside/{cuse,eventfd_link}.py with pytest and prints each outcome to its
console; here each becomes the outcome of a test of the same name.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

import vm

INSIDE = [os.path.join(vm.ROOT, "tests/vm/inside", name) for name in ("cuse.py", "eventfd_link.py")]
APP = os.path.join(vm.ROOT, "build/cuse/app/vhost-switch")
# The last four are the kernel's vhost-net, whose answers the device is held against
MODULES = ["fuse", "cuse", "tun", "vhost_iotlb", "vhost", "tap", "vhost_net"]
# pytest and what it imports, as Debian's python3-pytest has them
PYTEST = ["pytest", "_pytest", "pluggy", "iniconfig", "packaging", "attr", "more_itertools",
          "exceptiongroup", "tomli", "importlib_metadata", "zipp", "py.py", "py"]
PMDS = ["mempool_ring", "net_virtio", "bus_vdev", "bus_pci"]

# What a nested QEMU loads by name: its way to run code, and firmware.
QEMU_FILES = ["/usr/lib/*/qemu/accel-tcg-*.so"] + [
    f"/usr/{place}/{name}" for place in ("share/qemu", "share/seabios", "lib/ipxe/qemu")
    for name in ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin", "efi-virtio.rom")]

SCRIPT = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONPATH=/tests/lib
export VHOST_SWITCH=/usr/bin/vhost-switch LD_LIBRARY_PATH=$(echo /usr/lib/*/dpdk/pmds-*)
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/shm /dev/hugepages /var; ln -s /run /var/run
mount -t tmpfs shm /dev/shm
echo 200 > /proc/sys/vm/nr_hugepages; mount -t hugetlbfs huge /dev/hugepages
/usr/bin/python3 -m pytest -p no:cacheprovider -q -rA --tb=short --color=no \\
    /tests/vm/inside/cuse.py /tests/vm/inside/eventfd_link.py
"""


def fill(root):
    """Python with pytest, the program under test, testpmd, and the tests."""
    lib = sysconfig.get_paths()["stdlib"]
    shutil.copytree(lib, root + lib, ignore=shutil.ignore_patterns(
        "test", "lib2to3", "pydoc_data", "idlelib", "ensurepip", "dist-packages", "config-*"))
    for ext in glob.glob(root + lib + "/lib-dynload/*.so"):
        for library in re.findall(r"(/\S+) \(0x", vm.run("ldd", ext)):
            vm.copy_program(library, root)
    packages = "/usr/lib/python3/dist-packages"
    for name in PYTEST:
        source = os.path.join(packages, name)
        if os.path.isdir(source):
            shutil.copytree(source, root + source)
        elif os.path.exists(source):
            os.makedirs(root + packages, exist_ok=True)
            shutil.copy(source, root + source)
    for name in PMDS:
        for link in glob.glob(f"/usr/lib/*/dpdk/pmds-*/librte_{name}.so.*"):
            vm.copy_program(link, root)
    for pattern in QEMU_FILES:
        for name in glob.glob(pattern):
            (vm.copy_program if name.endswith(".so") else vm.copy_file)(name, root)
    shutil.copy(os.path.join(vm.ROOT, "qemu-wrap.py"), root)
    # glibc loads it by name when a thread is cancelled
    vm.copy_program(glob.glob("/usr/lib/*/libgcc_s.so.1")[0], root)
    vm.copy_program(APP, root)
    os.rename(root + os.path.realpath(APP), root + "/usr/bin/vhost-switch")
    shutil.copy(vm.kernel_module("eventfd_link"), root)
    for name in ("lib", "vm/inside"):
        shutil.copytree(os.path.join(vm.ROOT, "tests", name), os.path.join(root, "tests", name),
                        ignore=shutil.ignore_patterns("test_*", "__pycache__"))


@pytest.fixture(scope="module")
def outcomes():
    """What each test inside came to, and the console."""
    machine = vm.Vm("cuse", SCRIPT, memory=2048, smp=2,
                    programs=["/usr/bin/python3", "dpdk-testpmd", "qemu-system-x86_64"],
                    modules=MODULES, fill=fill)
    try:
        machine.wait(700)
    finally:
        machine.kill()
    results = {}
    for line in machine.lines:
        m = re.match(r"(PASSED|FAILED|ERROR) \S*::(\S+)", line)
        if m:
            results[m.group(2)] = m.group(1)
    return results, machine


@pytest.mark.parametrize("without, named", [
    ("-sys_ptrace", "CAP_SYS_PTRACE"),
    ("-checkpoint_restore,-sys_admin", "CAP_CHECKPOINT_RESTORE")])
def test_capabilities_that_guests_will_need(without, named):
    """Said before anything is started; each guest would be refused else."""
    r = subprocess.run(["setpriv", f"--bounding-set={without}", APP, "-l", "0", "--no-huge", "--",
                        "-p", "0x0", "--dev-basename", "usvhost"], capture_output=True, text=True,
                       timeout=30, check=False)
    assert r.returncode == 1 and r.stdout == ""
    assert r.stderr.startswith(f"vhost-switch: --dev-basename needs {named}"), r.stderr
    assert len(r.stderr.splitlines()) == 1


def names():
    """All tests inside."""
    out = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q",
                          "--collect-only", *INSIDE], capture_output=True, text=True,
                         check=False).stdout
    found = re.findall(r"::(\S+)", out)
    assert found, out
    return found


@pytest.mark.parametrize("name", names())
def test_inside(outcomes, name):
    results, machine = outcomes
    if results.get(name) != "PASSED":
        if not getattr(machine, "shown", False):
            print(machine.log())
            machine.shown = True
        pytest.fail(f"{name} inside the VM: {results.get(name, 'did not run')}")
