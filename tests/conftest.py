# SPDX-License-Identifier: BSD-3-Clause
import os

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks
def pytest_collection_modifyitems(items):
    """
    What may run beside what: VMs need all CPUs for themselves, and tests of a file are made to run
    one after the other.
    """
    for item in items:
        folder, file = os.path.split(item.path)
        if os.path.basename(folder) == "vm":
            item.add_marker(pytest.mark.alone)
        item.add_marker(pytest.mark.xdist_group(file))
