/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>

#include "uplink/uplink.h"

/*
 * Steering for a NIC without VMDQ: one promiscuous queue for all guests. The switch finds the
 * guest by VLAN tag (1000 + id: an index, no search) and compares the MAC, which it does after
 * VMDQ as well. So there is nothing left to do here but to plan the queue.
 */

static int
plan_software(struct uplink *up, const struct config *cfg, struct uplink_plan *plan)
{
	if (cfg->vm2vm == VM2VM_HARDWARE) {
		fprintf(stderr, "vhost-switch: --vm2vm 2 needs a NIC with an L2 switch "
			"(VMDQ loopback), but port %u (%s) has none\n", up->port,
			plan->info.driver_name);
		return -ENOTSUP;
	}
	if (cfg->dcb != 0) {
		fprintf(stderr, "vhost-switch: --dcb %u needs a NIC with VMDQ and DCB, "
			"but port %u (%s) has neither\n", cfg->dcb, up->port,
			plan->info.driver_name);
		return -ENOTSUP;
	}
	plan->nb_rxq = 1;
	up->common = (struct uplink_queues){ .first = 0, .count = 1 };
	plan->guest_limit = GUEST_MAX;
	return 0;
}

const struct steering steering_software = {
	.name = "software (the NIC has no VMDQ)",
	.is_promiscuous = true,
	.shares_queue = true,
	.plan = plan_software,
};

/* The same for one that has VMDQ, where its pools cannot express what is asked for. */
const struct steering steering_software_vmdq = {
	.name = "software (not by the NIC's VMDQ)",
	.is_promiscuous = true,
	.shares_queue = true,
	.plan = plan_software,
};
