/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>

#include "switch/edit.h"
#include "switch/mirror.h"
#include "switch/output.h"

#define TXD 512

/* Some drivers do not start without a receive queue. It is never polled, so it is short. */
#define RXD 64

int
mirror_open(struct mirror *mirror, const struct config *cfg)
{
	struct rte_eth_dev_info info;
	int ret;

	memset(mirror, 0, sizeof(*mirror));
	rte_spinlock_init(&mirror->lock);
	if (cfg->mirror_mask == 0)
		return 0;
	mirror->port = (uint16_t)__builtin_ctzll(cfg->mirror_mask);
	if (!rte_eth_dev_is_valid_port(mirror->port)) {
		fprintf(stderr, "vhost-switch: --mirror-port selects port %u, which does not "
			"exist: EAL found %u\n", mirror->port, rte_eth_dev_count_avail());
		return -ENODEV;
	}
	mirror->nb_rxd = RXD;
	mirror->nb_txd = TXD;
	ret = rte_eth_dev_info_get(mirror->port, &info);
	if (ret == 0)
		ret = rte_eth_dev_adjust_nb_rx_tx_desc(mirror->port, &mirror->nb_rxd,
			&mirror->nb_txd);
	if (ret < 0) {
		fprintf(stderr, "vhost-switch: --mirror-port selects port %u, which does not work: "
			"%s\n", mirror->port, strerror(-ret));
		return ret;
	}
	mirror->longest = RTE_MIN(info.max_rx_pktlen, (uint32_t)FRAME_MAX);
	mirror->extra_mbufs = port_buffers_extra(&info, 1);
	mirror->present = true;
	return 0;
}

uint32_t
mirror_mbufs(const struct mirror *mirror)
{
	/* Its rings, and the longest frames in the hands of one worker. */
	return mirror->present ? mirror->nb_rxd + mirror->nb_txd + mirror->extra_mbufs + BURST_MAX *
		(mirror->longest / RTE_MBUF_DEFAULT_DATAROOM + 1) : 0;
}

int
mirror_start(struct mirror *mirror, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;
	unsigned int socket;
	int ret;

	if (!mirror->present)
		return 0;
	mirror->pool = pool;
	socket = (unsigned int)rte_eth_dev_socket_id(mirror->port);
	ret = rte_eth_dev_info_get(mirror->port, &info);
	port_buffers_begin(&mirror->buffers, mirror->port, 1, pool);
	if (ret == 0) {
		conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
		ret = rte_eth_dev_configure(mirror->port, 1, 1, &conf);
	}
	if (ret == 0)
		ret = rte_eth_rx_queue_setup(mirror->port, 0, mirror->nb_rxd, socket, NULL,
			pool);
	if (ret == 0)
		ret = rte_eth_tx_queue_setup(mirror->port, 0, mirror->nb_txd, socket, NULL);
	if (ret == 0)
		ret = rte_eth_dev_start(mirror->port);
	if (ret < 0) {
		RTE_LOG(ERR, UPLINK, "cannot start mirror port %u: %s\n", mirror->port,
			strerror(-ret));
		return ret;
	}
	port_buffers_started(&mirror->buffers);
	RTE_LOG(INFO, UPLINK, "mirror port %u (%s): copies up to %u bytes of a frame\n",
		mirror->port, info.driver_name, mirror->longest);
	port_link_open(&mirror->link, "mirror port", mirror->port);
	if (mirror->link.skips_frames)
		mirror->link.frame_min = 0; /* a capture shows frames as they are */
	port_link_update(&mirror->link);
	return 0;
}

void
mirror_watch_link(struct mirror *mirror)
{
	if (mirror->present)
		port_link_update(&mirror->link);
}

uint32_t
mirror_close(struct mirror *mirror)
{
	uint32_t kept = 0;

	if (!mirror->present)
		return 0;
	port_link_close(&mirror->link);
	if (mirror->pool != NULL)
		kept = port_buffers_close(&mirror->buffers);
	else
		rte_eth_dev_close(mirror->port); /* never configured */
	mirror->present = false;
	return kept;
}

/*
 * Send copies, each for itself: one that the driver does not accept is freed. Returns how many
 * left.
 */
static uint16_t
send_copies(struct mirror *mirror, struct rte_mbuf **copy, uint16_t n)
{
	uint16_t i = 0, sent = 0, now;

	while (i < n) {
		now = rte_eth_tx_burst(mirror->port, 0, copy + i, (uint16_t)(n - i));
		sent = (uint16_t)(sent + now);
		i = (uint16_t)(i + now);
		if (i == n)
			break;
		rte_pktmbuf_free(copy[i++]);
	}
	return sent;
}

/* Whether frame i, which keeps its tag or has none, has one. */
static bool
is_tagged(const struct burst *b, uint16_t i)
{
	const struct rte_ether_hdr *eth = (const void *)b->data[i];

	return b->len[i] >= RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN &&
		eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN);
}

/* A copy of a frame as the guest sent it or, with a run, got it. NULL: there cannot be one. */
static struct rte_mbuf *
copy_frame(struct mirror *mirror, struct burst *b, uint16_t i, const struct run *run,
	uint32_t longest)
{
	struct edit e = run != NULL ? edit_of(run) : (struct edit){ 0, 0 };
	bool retag = run != NULL && run->retag;
	bool tagged = retag ? e.in > 0 : is_tagged(b, i);
	uint32_t max = RTE_MIN(longest + (tagged ? RTE_VLAN_HLEN : 0u), mirror->longest);
	struct rte_mbuf *m = burst_copy(b, i, mirror->pool, max + e.out - e.in);

	if (m == NULL)
		return NULL;
	if ((!retag || output_retag(&m, run->tag, burst_priority(b, i)) == 0) &&
			port_fit(&mirror->link, longest, m) == 0)
		return m;
	rte_pktmbuf_free(m);
	return NULL;
}

/* Copies of at most BURST_MAX frames. */
static void
mirror_some(struct mirror *mirror, struct burst *b, uint16_t first, uint16_t n,
	const struct run *run)
{
	uint32_t longest = __atomic_load_n(&mirror->link.frame_max, __ATOMIC_RELAXED);
	struct rte_mbuf *copy[BURST_MAX], *m;
	uint16_t i, copies = 0;

	for (i = 0; i < n && longest > 0; i++) {
		m = copy_frame(mirror, b, (uint16_t)(first + i), run, longest);
		if (m != NULL)
			copy[copies++] = m;
	}
	rte_spinlock_lock(&mirror->lock);
	copies = send_copies(mirror, copy, copies);
	mirror->sent += copies;
	mirror->lost += (uint64_t)(n - copies);
	rte_spinlock_unlock(&mirror->lock);
}

void
mirror_views(struct mirror *mirror, struct burst *b, uint16_t first, uint16_t n,
	const struct run *run)
{
	uint16_t part;

	for (; n > 0; n = (uint16_t)(n - part), first = (uint16_t)(first + part)) {
		part = RTE_MIN(n, (uint16_t)BURST_MAX);
		mirror_some(mirror, b, first, part, run);
	}
}

void
mirror_mbuf(struct mirror *mirror, struct rte_mbuf *m)
{
	struct burst b;

	burst_of_mbufs(&b, &m, 1);
	mirror_some(mirror, &b, 0, 1, NULL);
}
