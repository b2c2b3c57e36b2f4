/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "main.h"
#include "uplink/buffers.h"

/*
 * net_af_xdp: XSK_RING_PROD__DEFAULT_NUM_DESCS in the fill ring, whatever the receive ring's
 * length, and XSK_RING_CONS__DEFAULT_NUM_DESCS in the completion ring beside the transmit ring
 * (libxdp).
 */
#define XDP_FILL 2048
#define XDP_COMPLETION 2048

/* How long frames on their way to the kernel may take; it may accept one at each call only. */
#define DRAIN_MS 2000
/* So long must the pool stay as it is before it is taken for settled. */
#define SETTLED_MS 5

uint32_t
port_buffers_extra(const struct rte_eth_dev_info *info, uint16_t nb_queues)
{
	if (strcmp(info->driver_name, "net_af_xdp") != 0)
		return 0;
	return nb_queues * (uint32_t)(XDP_FILL + XDP_COMPLETION);
}

void
port_buffers_begin(struct port_buffers *b, uint16_t port, uint16_t nb_txq, struct rte_mempool *pool)
{
	*b = (struct port_buffers){ .pool = pool, .port = port, .nb_txq = nb_txq,
		.held = rte_mempool_avail_count(pool) };
}

void
port_buffers_started(struct port_buffers *b)
{
	b->held -= RTE_MIN(b->held, rte_mempool_avail_count(b->pool));
	b->started = true;
}

/* Some drivers look for what the kernel has sent only when they are given something to send. */
static void
drain(const struct port_buffers *b)
{
	uint64_t end = rte_get_timer_cycles() + DRAIN_MS * rte_get_timer_hz() / MS_PER_S;
	unsigned int before = rte_mempool_avail_count(b->pool), now, settled = 0;
	uint16_t q;

	while (settled < SETTLED_MS && rte_get_timer_cycles() < end) {
		for (q = 0; q < b->nb_txq; q++)
			rte_eth_tx_burst(b->port, q, NULL, 0);
		now = rte_mempool_avail_count(b->pool);
		settled = now == before ? settled + 1 : 0;
		before = now;
		if (settled > 0)
			usleep(1000);
	}
}

uint32_t
port_buffers_close(struct port_buffers *b)
{
	struct rte_eth_dev_info info = { 0 };
	unsigned int before, back;
	uint32_t kept;
	int ret;

	if (rte_eth_dev_info_get(b->port, &info) < 0)
		info.driver_name = "unknown";
	if (b->started)
		drain(b);
	before = rte_mempool_avail_count(b->pool);
	ret = rte_eth_dev_stop(b->port);
	if (ret < 0)
		RTE_LOG(ERR, UPLINK, "cannot stop port %u: %s\n", b->port, strerror(-ret));
	rte_eth_dev_close(b->port);
	back = rte_mempool_avail_count(b->pool) - before;
	kept = b->started && b->held > back ? b->held - back : 0;
	if (kept > 0)
		RTE_LOG(INFO, UPLINK, "port %u (%s): its driver keeps %u mbufs of its own rings\n",
			b->port, info.driver_name, kept);
	return kept;
}
