/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "control/stats.h"
#include "port/guest.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

void
stats_guest(const struct stats_source *src, uint16_t id, struct guest_counters *sum)
{
	unsigned int i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < src->nb_workers; i++)
		counters_add_guest(sum, &src->workers[i]->counters.guest[id]);
}

void
stats_uplink(const struct stats_source *src, struct uplink_counters *sum)
{
	unsigned int i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < src->nb_workers; i++)
		counters_add_uplink(sum, &src->workers[i]->counters.uplink);
}

const char *
stats_guest_state(const struct guest *g)
{
	if (device_is_disabled(g->device))
		return "disabled";
	if (guest_is_registered(g))
		return "registered";
	return g->refused ? "refused" : "ready";
}

const char *
stats_no_traffic_reason(const struct guest *g)
{
	const struct device *d = g->device;

	if (device_is_disabled(d))
		return "disabled, the log says why";
	if (device_is_paused(d))
		return "the front end is changing the device";
	if (!d->running)
		return "the device is stopped";
	return device_count_pairs(d->rx) == 0 ? "no receive virtqueue is enabled" : "";
}
