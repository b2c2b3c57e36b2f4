# SPDX-License-Identifier: BSD-3-Clause
"""The systemd unit under a real systemd, in a VM: ready in time, its folder stays, reload."""

import glob
import os
import shutil

import pytest

from harness import APP, ROOT, wait_for
from vm import Vm, copy_program

SYSTEMD = "/lib/systemd/systemd"

# Starts systemd as the first process of the VM.
SCRIPT = """
mount -t tmpfs run /run; mount -t cgroup2 cg /sys/fs/cgroup
exec /lib/systemd/systemd --system --log-target=console --log-level=notice
"""

# A container's view of the folder is a bind mount of it. What "systemctl" waits for has happened.
TRY = """
show() { echo "$1:" $(ls /mnt) $(systemctl show -P ActiveState vhost-switch); }
systemctl start vhost-switch; mount --bind /run/vhost-switch /mnt; show started
systemctl restart vhost-switch; show restarted
kill -9 $(systemctl show -P MainPID vhost-switch)
wait_for() {
    i=0
    while [ "$(systemctl show -P $1 vhost-switch)" != $2 ] && [ $i -lt 60 ]; do
        sleep 0.5; i=$((i+1))
    done
}
wait_for NRestarts 1
wait_for ActiveState active
show killed
systemctl reload vhost-switch && echo "reload: done" || echo "reload: refused"
show refused
mkdir -p /etc/default; echo 'OPTIONS="-p 0x0 --config /run/ports.conf"' > /etc/default/vhost-switch
printf '[port a]\nsocket = /run/vhost-switch/a\n' > /run/ports.conf
systemctl restart vhost-switch; show ported
printf '[port b]\nsocket = /run/vhost-switch/b\n' >> /run/ports.conf
pid=$(systemctl show -P MainPID vhost-switch)
systemctl reload vhost-switch && echo "reload: done" || echo "reload: refused"
i=0; while [ ! -e /mnt/b ] && [ $i -lt 60 ]; do sleep 0.5; i=$((i+1)); done
wait_for ActiveState active
[ $pid = $(systemctl show -P MainPID vhost-switch) ] && show reloaded
systemctl stop vhost-switch; show stopped
echo "result: $(systemctl show -P Result vhost-switch)"
poweroff -f
"""

FILES = {
    "/etc/systemd/system/try.service":
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nStandardOutput=tty\n"
        "TTYPath=/dev/console\nExecStart=/bin/sh /try\n",
    "/etc/systemd/system/default.target": "[Unit]\nDefaultDependencies=no\nWants=try.service\n",
    "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "/etc/group": "root:x:0:\ntty:x:5:\n",
    "/try": TRY,
}


def install(root):
    """systemd, its own units, and the switch as "make install PREFIX=/usr" would put it."""
    core = glob.glob("/usr/lib/*/systemd/libsystemd-core-*.so")[0]
    libraries = os.path.dirname(os.path.dirname(core))
    for path in [SYSTEMD, "/usr/bin/systemctl", APP, f"{libraries}/libgcc_s.so.1",
                 *glob.glob(f"{libraries}/systemd/libsystemd-*.so"),
                 *glob.glob(f"{libraries}/dpdk/pmds-*/librte_mempool_ring.so.*"),
                 *glob.glob(f"{libraries}/dpdk/pmds-*/librte_bus_*.so.*")]:
        copy_program(path, root)
    os.rename(root + os.path.realpath(APP), root + "/usr/bin/vhost-switch")
    shutil.copytree("/lib/systemd/system", root + "/usr/lib/systemd/system", symlinks=True,
                    ignore=shutil.ignore_patterns("*.wants", "systemd-*", "*getty*", "dbus*",
                                                  "apt-*"))
    for name in ("/etc/systemd/system", "/var/lib", "/var/tmp", "/mnt"):
        os.makedirs(root + name)
    os.symlink("/run", root + "/var/run")
    with open(os.path.join(ROOT, "packaging/vhost-switch.service.in"), encoding="utf-8") as f:
        unit = f.read().replace("@PREFIX@", "/usr")
    for name, text in {**FILES, "/etc/systemd/system/vhost-switch.service": unit}.items():
        with open(root + name, "w", encoding="utf-8") as f:
            f.write(text)


@pytest.mark.skipif(not os.path.exists(SYSTEMD), reason="no systemd here")
def test_the_service_is_ready_in_time_and_keeps_its_folder():
    vm = Vm("service", SCRIPT, memory=1536, modules=[], fill=install)
    try:
        wait_for(lambda: vm.has("result:") or vm.proc.poll() is not None, 180,
                 "the end of the script")
    finally:
        vm.kill()
    for line in ("started: dpdk sock active", "restarted: dpdk sock active",
                 "killed: dpdk sock active", "reload: refused", "refused: dpdk sock active",
                 "ported: a dpdk active", "reload: done", "reloaded: a b dpdk active",
                 "stopped: dpdk inactive", "result: success"):
        assert vm.has(line), vm.log()
