#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""make demo: a newcomer's first minute with vhost-switch.

An embedded uplink and two small Linux VMs that ping each other through the switch; where QEMU
cannot be had, two guests without a VM. Ends by itself and cleans up, Ctrl-C included.
"""

import os
import re
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

import harness  # noqa: E402
import vhostuser  # noqa: E402
import vm  # noqa: E402

MACS = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
SCRIPT = """
ip addr add 192.168.77.{me}/24 dev eth0
echo VM {me} is up
i=0; until ping -c 1 -W 1 192.168.77.{peer} >/dev/null 2>&1 || [ $i -ge 60 ]; do i=$((i+1)); done
ping -c {count} -i 0.2 192.168.77.{peer}
{last}
"""
START = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


def with_vms(switch):
    seen = []

    def console(name, line):
        if "bytes from" in line or "packets" in line or "is up" in line:
            say(f"{name}: {line}")
        m = re.search(r"(\d+) packets received", line)
        if m:
            seen.append(int(m.group(1)))

    machines = [vm.Vm(f"vm{i + 1}", SCRIPT.format(me=i + 1, peer=2 - i, count=6, last="sleep 8"),
                      switch.sock, MACS[i], cpus=str(harness.cpus()[1]), memory=128, say=console)
                for i in range(2)]
    say("two Linux VMs are booting under QEMU; that takes a few seconds")
    try:
        harness.wait_for(lambda: len(seen) == 2 or any(m.proc.poll() for m in machines), 120,
                         "pings from both VMs")
        time.sleep(1.2)  # for one more table of statistics
    except TimeoutError:
        print("\n".join(m.log() for m in machines))
        raise
    finally:
        for m in machines:
            m.kill()
    return (f"{sum(seen)} of 12 pings were answered between two Linux VMs",
            len(seen) == 2 and all(seen))


def without_vms(switch):
    say("QEMU is not to be had: two guests without a VM exchange frames instead")
    a, b = (vhostuser.Guest(switch.sock, mac) for mac in MACS)
    switch.wait_guests(2)
    a.announce()
    b.announce()
    a.recv(1)
    count = 0
    for _ in range(20):
        a.send([a.frame(b, os.urandom(1000)) for _ in range(50)])
        count += len(b.recv(50))
    time.sleep(1.2)
    a.close()
    b.close()
    return f"{count} of 1000 frames crossed between two guests", count == 1000


def show_table(switch):
    """The last whole table of statistics that has both guests."""
    text = "\n".join(switch.lines)
    tables = [t for t in re.findall(r"Device statistics =+\n.*?\n=+", text, re.S)
              if "for device 1" in t]
    if tables:
        print(tables[-1], flush=True)


def main():
    before = harness.reserve_hugepages(128)
    switch = None

    def interrupted(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    code = 1
    try:
        huge = harness.hugepages()
        say(f"{huge} hugepages of 2 MB are free" + ("" if huge else ": 4 KB pages will do"))
        switch = harness.Switch("--stats", "1", vdev=["net_null0,no-rx=1"], port="0x1", start=False,
                                app=os.path.abspath(sys.argv[1]), memory=128, huge=huge >= 64)
        say("starting: " + " ".join(["vhost-switch", *switch.args[1:]]))
        switch.start()
        say(f"the switch runs; guests connect to {switch.sock}")
        use_vms = shutil.which("qemu-system-x86_64") and os.path.exists("/bin/busybox")
        if use_vms:
            say("fetching Debian's kernel for the VMs (once)")
            vm.kernel()
        what, good = (with_vms if use_vms else without_vms)(switch)
        for line in switch.lines:
            if line.startswith("DATA:"):
                print(line)
        show_table(switch)
        switch.stop()
        say(f"demo {'succeeded' if good else 'FAILED'}: {what}, "
            "and every mbuf came back to the pool.")
        code = 0 if good else 1
    except KeyboardInterrupt:
        say("interrupted; cleaning up")
        code = 130
    except (TimeoutError, AssertionError) as error:
        say(f"demo FAILED: {error}")
    finally:
        if switch is not None and switch.proc is not None and switch.proc.poll() is None:
            switch.proc.terminate()
            switch.proc.wait(30)
        if switch is not None:
            shutil.rmtree(switch.dir, ignore_errors=True)
        harness.give_back_hugepages(before)
    return code


if __name__ == "__main__":
    sys.exit(main())
