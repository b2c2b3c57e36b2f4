# SPDX-License-Identifier: BSD-3-Clause
"""What the modelled 82599 says of itself by telemetry (tests/nic82599)."""

OWN = "mac_020000825909"  # of the card


def filters(s):
    """Pools of each guest's MAC filter."""
    return {k[4:]: int(v, 16) for k, v in s.telemetry("/nic82599/filters").items()
            if k.startswith("mac_") and k != OWN}


def vlans(s):
    return {int(k[5:]): int(v, 16) for k, v in s.telemetry("/nic82599/filters").items()
            if k.startswith("vlan_")}


def queues(s):
    return {k: v for k, v in s.telemetry("/nic82599/queues").items() if v}


def mode(s):
    return {k: int(v, 16) for k, v in s.telemetry("/nic82599/mode").items()}


def received(before, after):
    """Receive queues that have had frames since."""
    return {int(k[3:]): after[k] - before.get(k, 0) for k in after
            if k.startswith("rx_") and after[k] != before.get(k, 0)}
