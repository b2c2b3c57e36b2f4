# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux VMs under QEMU: ping and TCP through the switch, with and without offloads."""

import re

import pytest

from harness import Switch, cpus
from vm import Vm

CLIENT = """
ip addr add 192.168.77.2/24 dev eth0
i=0; until ping -c 1 -W 1 192.168.77.1 >/dev/null 2>&1 || [ $i -ge 60 ]; do i=$((i+1)); done
ping -c 5 -i 0.2 192.168.77.1
ping -c 3 -i 0.2 -s 1400 192.168.77.1
iperf3 -c 192.168.77.1 -t 3 -f m; iperf3 -c 192.168.77.1 -t 3 -f m -R
iperf3 -c 192.168.77.1 -t 1 -f m -M 216 | sed "s/bits.sec/bit in small segments/"
iperf3 -c 192.168.77.1 -t 1 -f m -M 216 -R | sed "s/bits.sec/bit in small segments/"
awk '/^Tcp:/' /proc/net/snmp
echo finished
"""

SERVER = """
ip addr add 192.168.77.1/24 dev eth0
iperf3 -s -D
i=0; while [ $i -lt 400 ]; do
  sleep 0.5; i=$((i+1))
  awk '/^Tcp:/ && $2 != "RtoAlgorithm" { print "errors", $14, $16 }' /proc/net/snmp
done
"""


@pytest.mark.parametrize("args,devices", [
    ((), ("", "")),
    (("--tso", "1", "--tx-csum", "1", "--mergeable", "1"), ("", "")),
    # one that leaves its checksums and segments to others, one that takes nothing unfinished
    (("--tso", "1", "--tx-csum", "1", "--mergeable", "1"),
     ("", ",guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off")),
], ids=["plain", "offloads", "offloads on one side"])
def test_two_vms_ping_and_tcp(args, devices):
    with Switch(*args) as s:
        server = Vm("server", SERVER, s.sock, "52:54:00:00:00:01", ["iperf3"], devices[0],
                    cpus=str(cpus()[1]))
        s.wait_guests(1, 60)
        client = Vm("client", CLIENT, s.sock, "52:54:00:00:00:02", ["iperf3"], devices[1],
                    cpus=str(cpus()[1]))
        try:
            client.wait(120)
            errors = [line for line in server.lines if line.startswith("errors")]
            log = client.log()
            assert client.has("finished"), log + server.log()
            assert client.has("5 packets transmitted, 5 packets received"), log
            assert client.has("3 packets transmitted, 3 packets received"), log
            rates = [float(r) for r in re.findall(
                r"([\d.]+) Mbits/sec +(?:\d+ +)?(?:sender|receiver)", log)]
            assert len(rates) == 4 and min(rates) > 20, log
            # as over a path of 256 bytes; what the switch does with it is in its counters below
            assert len(re.findall(r"Mbit in small segments .*receiver", log)) == 2, log
            # TCP's InErrs and InCsumErrors: columns 14 and 16 of RFC 4022's counters in /proc
            tcp = [line.split() for line in client.lines if line.startswith("Tcp: ")]
            at = {name: i for i, name in enumerate(tcp[0])}
            assert tcp[1][at["InErrs"]] == "0" and tcp[1][at["InCsumErrors"]] == "0", tcp
            assert errors and errors[-1] == "errors 0 0", errors[-1:]
            for i in range(2):
                if i < len(s.guests()):
                    st = s.stats(i)
                    assert st["tx_drop_offload"] == 0 and st["rx_drop_offload"] == 0
        finally:
            client.kill()
            server.kill()
        s.wait_guests(0)
