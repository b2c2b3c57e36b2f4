# SPDX-License-Identifier: BSD-3-Clause
"""Frames that ask for a checksum or segments, between guests of every kind.

OFFLOAD_FRAMES=200, or "make soak", sends more of each.
"""

import os
import subprocess

import pytest

from harness import ROOT, Switch, cpus, eal_args
from traffic import consistent

OFFLOADS = os.path.join(ROOT, "build/system/offloads")
FRAMES = int(os.environ.get("OFFLOAD_FRAMES", "8"))
KINDS = [(packed, mergeable, in_order, pairs) for packed in (0, 1) for mergeable in (0, 1)
         for in_order in (0, 1) for pairs in (1, 4)]
TURNS = 15  # kinds and sizes of frames in offloads.c
MAC = "02:00:00:00:0b:{:02x}"


@pytest.mark.parametrize("receivers", ["none", "csum", "all"])
def test_requests_between_every_pair_of_kinds(receivers):
    """{split, packed} x {mergeable, not} x {in-order, not} x {one pair, four}, each to each other,
    which finish nothing, checksums, or segments too."""
    with Switch("--mergeable", "1", "--tso", "1", "--tx-csum", "1", "--rx-retry-num", "1000",
                "--rx-retry-delay", "1000", memory=1024) as s:
        vdevs = [a for i, (packed, mergeable, in_order, pairs) in enumerate(KINDS) for a in (
            "--vdev", f"net_virtio_user{i},path={s.sock},mac={MAC.format(i)},queue_size=128,"
            f"packed_vq={packed},mrg_rxbuf={mergeable},in_order={in_order},queues={pairs}")]
        ports = [f"{pairs}{'m' * mergeable}" for _, mergeable, _, pairs in KINDS]
        with subprocess.Popen(
                [OFFLOADS, *eal_args("offloads", f"0@{cpus()[1]}", 640, ["--no-telemetry", *vdevs]),
                 "--", receivers, str(FRAMES), *ports], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as proc:
            out = ""
            for line in proc.stdout:
                out += line
                if line == "ready\n":
                    s.wait_registered(*map(MAC.format, range(len(KINDS))))
                    s.settle()
                    proc.stdin.write("\n")
                    proc.stdin.flush()
                if " turns, " in line:
                    break
            stats = [consistent(s.stats(i)) for i in range(len(KINDS))] if " turns, " in out else []
            proc.communicate(timeout=60)
        print(out[-3000:])
        turns = len(KINDS) * (len(KINDS) - 1) * TURNS
        assert proc.returncode == 0 and "wrong" not in out
        assert out.splitlines()[-1] == f"{turns} turns, {turns * FRAMES} frames"
        for st in stats:  # introductions before there is anybody else, or to who is not ready
            drops = {k: n for k, n in st.items() if "_drop_" in k and n}
            assert set(drops) <= {"tx_drop_no_destination", "rx_drop_guest_stopped"}, st
            if receivers == "all":  # one copy, whatever is asked for
                assert st["tx_direct"] >= 0.98 * st["tx_successful"], st
