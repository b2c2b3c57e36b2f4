/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_pmd_ixgbe.h>

#include "process/process.h"
#include "uplink/vmdq.h"

/*
 * Receive descriptors a queue: 128 with VMDQ, where there may be 128 queues of them, is what fits
 * four bursts. With one queue for all guests there is room for a longer stall of its worker.
 */
#define RXD_POOL 128
#define RXD_SHARED 1024
#define TXD 512

/* How long to wait for the link at start: what 10GBASE-T takes to come up, and a bit. */
#define LINK_WAIT_S 9

/* A jumbo frame as NICs commonly count it: 9000 bytes after the Ethernet header. */
#define JUMBO_MTU 9000

#define WANTED_TX_OFFLOADS                                                                         \
	(RTE_ETH_TX_OFFLOAD_VLAN_INSERT | RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
#define CSUM_TX_OFFLOADS                                                                           \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |                            \
		RTE_ETH_TX_OFFLOAD_UDP_CKSUM)

/* The port that the mask names. Returns -ENODEV when there is none. */
static int
find_port(uint64_t mask)
{
	uint16_t port = (uint16_t)__builtin_ctzll(mask);

	if (!rte_eth_dev_is_valid_port(port)) {
		fprintf(stderr, "vhost-switch: -p selects port %u, which does not exist: "
			"EAL found %u\n", port, rte_eth_dev_count_avail());
		return -ENODEV;
	}
	return port;
}

static void
plan_transmit(struct uplink *up, const struct config *cfg, struct uplink_plan *plan,
	unsigned int nb_workers)
{
	uint64_t wanted = WANTED_TX_OFFLOADS;

	if (cfg->tx_csum || config_has_ports(cfg))
		wanted |= CSUM_TX_OFFLOADS;
	if (cfg->tso || config_has_ports(cfg))
		wanted |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
	/* net_tap refuses segments of a full MTU: it takes their headers for a part of the MTU. */
	if (strcmp(plan->info.driver_name, "net_tap") == 0)
		wanted &= ~(uint64_t)RTE_ETH_TX_OFFLOAD_TCP_TSO;
	up->tx_offloads = wanted & plan->info.tx_offload_capa;
	up->vlan_insert_hw = up->tx_offloads & RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	plan->conf.txmode.offloads = up->tx_offloads;

	up->nb_txq = plan->nb_txq;
	if (up->nb_txq > 0) {
		up->txq_shared = up->txq_shared && nb_workers > 1;
		return;
	}
	up->nb_txq = (uint16_t)RTE_MIN(nb_workers, (unsigned int)plan->info.max_tx_queues);
	up->txq_shared = up->nb_txq < nb_workers;
}

/*
 * The MTU that a port can have, the way rte_eth_dev_configure() will check it: max_rx_pktlen counts
 * the frame, and what is not MTU of it is only known where the driver sets max_mtu too.
 */
static uint32_t
mtu_limit(const struct rte_eth_dev_info *info)
{
	uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		overhead = info->max_rx_pktlen - info->max_mtu;
	if (info->max_rx_pktlen <= overhead)
		return 0;
	return RTE_MIN(info->max_rx_pktlen - overhead, (uint32_t)info->max_mtu);
}

static void
plan_jumbo(const struct uplink *up, struct uplink_plan *plan)
{
	uint32_t mtu = RTE_MIN(mtu_limit(&plan->info), (uint32_t)JUMBO_MTU);

	if (mtu <= RTE_ETHER_MTU) {
		RTE_LOG(WARNING, UPLINK, "port %u (%s) does not support jumbo frames\n", up->port,
			plan->info.driver_name);
		return;
	}
	plan->conf.rxmode.mtu = mtu;
	plan->conf.rxmode.offloads |=
		RTE_ETH_RX_OFFLOAD_SCATTER & plan->info.rx_offload_capa;
}

/* What no rte_eth_dev_info says. */
static void
probe(const struct uplink *up, struct uplink_plan *plan)
{
	struct rte_eth_dcb_info dcb;

	plan->has_dcb = rte_eth_dev_get_dcb_info(up->port, &dcb) == 0;
	/* The ixgbe PMD alone has a call for it. Off is how it stands before the start anyway. */
	plan->has_loopback = rte_pmd_ixgbe_set_tx_loopback(up->port, 0) == 0;
	/* And for the VLANs of a pool; an 82598 has 16 pools and no VLAN filters of theirs. */
	plan->has_pool_vlans = plan->has_loopback &&
		plan->info.max_vmdq_pools >= RTE_ETH_64_POOLS;
}

/* Why a way to steer that the command line asks for is not possible; NULL: it is. */
static const char *
find_obstacle(const struct config *cfg, const struct uplink_plan *plan)
{
	if (plan->info.max_vmdq_pools == 0)
		return cfg->steering == STEERING_VMDQ ? "there is none" : NULL;
	if (config_has_ports(cfg) && cfg->steering != STEERING_SOFTWARE && !plan->has_pool_vlans &&
			(cfg->dcb != 0 || cfg->vm2vm == VM2VM_HARDWARE ||
				cfg->steering == STEERING_VMDQ))
		return "with --port or --config its pools' VLANs must change while it runs";
	if (cfg->steering == STEERING_SOFTWARE && (cfg->dcb != 0 || cfg->vm2vm == VM2VM_HARDWARE))
		return "--steering software was given";
	return NULL;
}

static int
refuse_steering(const struct uplink *up, const struct config *cfg, const struct uplink_plan *plan)
{
	const char *why = find_obstacle(cfg, plan);

	if (why == NULL)
		return 0;
	fprintf(stderr, "vhost-switch: %s needs VMDQ of port %u (%s), but %s\n",
		cfg->dcb != 0 ? "--dcb" : cfg->vm2vm == VM2VM_HARDWARE ? "--vm2vm 2"
								       : "--steering vmdq",
		up->port, plan->info.driver_name, why);
	return -ENOTSUP;
}

static const struct steering *
choose_steering(const struct config *cfg, const struct uplink_plan *plan)
{
	if (plan->info.max_vmdq_pools == 0)
		return &steering_software;
	if (cfg->steering == STEERING_SOFTWARE || (config_has_ports(cfg) && !plan->has_pool_vlans))
		return &steering_software_vmdq;
	if (config_has_ports(cfg))
		return cfg->dcb != 0 ? &steering_assigned_dcb : &steering_assigned;
	return cfg->dcb != 0 ? &steering_dcb : &steering_vmdq;
}

static int
size_rings(struct uplink *up)
{
	bool shares = up->steering->shares_queue || up->assigns_pools;
	int ret;

	up->nb_rxd = up->steering->shares_queue ? RXD_SHARED : RXD_POOL;
	up->nb_rxd_common = shares ? RXD_SHARED : RXD_POOL;
	up->nb_txd = up->tx_by_pool ? TXD_POOL : TXD;
	ret = rte_eth_dev_adjust_nb_rx_tx_desc(up->port, &up->nb_rxd_common, &up->nb_txd);
	if (ret < 0)
		return ret;
	return rte_eth_dev_adjust_nb_rx_tx_desc(up->port, &up->nb_rxd, &up->nb_txd);
}

int
uplink_open(struct uplink *up, struct uplink_plan *plan, const struct config *cfg,
	unsigned int nb_workers)
{
	unsigned int i;
	int ret;

	memset(up, 0, sizeof(*up));
	memset(plan, 0, sizeof(*plan));
	up->guest_limit = GUEST_MAX;
	if (cfg->port_mask == 0)
		return 0;
	ret = find_port(cfg->port_mask);
	if (ret < 0)
		return ret;
	up->port = (uint16_t)ret;
	ret = rte_eth_dev_info_get(up->port, &plan->info);
	if (ret < 0) {
		fprintf(stderr, "vhost-switch: -p selects port %u, which does not work: %s\n",
			up->port, strerror(-ret));
		return ret;
	}
	probe(up, plan);
	up->vlan_strip = cfg->vlan_strip;
	up->loopback = cfg->vm2vm == VM2VM_HARDWARE;
	ret = refuse_steering(up, cfg, plan);
	if (ret < 0)
		return ret;
	up->steering = choose_steering(cfg, plan);
	ret = up->steering->plan(up, cfg, plan);
	if (ret < 0)
		return ret;
	if (up->vlan_strip)
		plan->conf.rxmode.offloads |=
			RTE_ETH_RX_OFFLOAD_VLAN_STRIP & plan->info.rx_offload_capa;
	plan_transmit(up, cfg, plan, nb_workers);
	if (cfg->mergeable)
		plan_jumbo(up, plan);
	for (i = 0; i < RTE_DIM(up->txq_lock); i++)
		rte_spinlock_init(&up->txq_lock[i]);
	up->nb_rxq = plan->nb_rxq;
	ret = size_rings(up);
	if (ret < 0)
		fprintf(stderr, "vhost-switch: -p selects port %u, which does not work: %s\n",
			up->port, strerror(-ret));
	up->guest_limit = plan->guest_limit;
	up->extra_mbufs = port_buffers_extra(&plan->info, up->nb_rxq);
	up->present = ret == 0;
	return ret;
}

uint32_t
uplink_mbufs(const struct uplink *up)
{
	uint32_t common = up->common.count;

	return (up->nb_rxq - common) * up->nb_rxd + common * up->nb_rxd_common +
		(uint32_t)up->nb_txq * up->nb_txd + up->extra_mbufs;
}

static bool
is_common(const struct uplink *up, uint16_t queue)
{
	return queue >= up->common.first && queue < up->common.first + up->common.count;
}

static int
setup_queues(struct uplink *up, struct uplink_plan *plan, struct rte_mempool *pool)
{
	struct rte_eth_rxconf rxconf = plan->info.default_rxconf;
	struct rte_eth_txconf txconf = plan->info.default_txconf;
	int socket = rte_eth_dev_socket_id(up->port);
	uint16_t q;
	int ret;

	rxconf.offloads = plan->conf.rxmode.offloads;
	rxconf.rx_drop_en = 1; /* a full pool must not stop the others, 82599 datasheet 7.1.3.2 */
	txconf.offloads = plan->conf.txmode.offloads;
	for (q = 0; q < up->nb_rxq; q++) {
		ret = rte_eth_rx_queue_setup(up->port, q,
			is_common(up, q) ? up->nb_rxd_common : up->nb_rxd, (unsigned int)socket,
			&rxconf, pool);
		if (ret < 0)
			return ret;
	}
	for (q = 0; q < up->nb_txq; q++) {
		ret = rte_eth_tx_queue_setup(up->port, q, up->nb_txd, (unsigned int)socket,
			&txconf);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static void
log_port(const struct uplink *up, const struct uplink_plan *plan)
{
	struct rte_ether_addr mac = { 0 };

	rte_eth_macaddr_get(up->port, &mac);
	RTE_LOG(INFO, UPLINK, "port %u (%s) " MAC_FMT ": steering by %s, "
		"%u guests at most, VLAN insert by %s\n", up->port, plan->info.driver_name,
		RTE_ETHER_ADDR_BYTES(&mac), up->steering->name, up->guest_limit,
		up->vlan_insert_hw ? "the NIC" : "software");
}

/* Without a link the switch starts too: guests may talk, and the link may come. */
static void
wait_for_link(struct uplink *up)
{
	unsigned int tenths;

	if (port_link_update(&up->link))
		return;
	RTE_LOG(INFO, UPLINK, "port %u: waiting for link, up to %u s\n", up->port, LINK_WAIT_S);
	for (tenths = 0; tenths < 10 * LINK_WAIT_S && !process_is_to_end(); tenths++) {
		usleep(100 * 1000);
		if (port_link_update(&up->link))
			return;
	}
	RTE_LOG(WARNING, UPLINK, "port %u: no link yet, starting without\n", up->port);
}

void
uplink_watch_link(struct uplink *up)
{
	if (!up->present)
		return;
	/* dpdk-dumpcap switches it off when it ends. */
	if (up->promiscuous && rte_eth_promiscuous_get(up->port) == 0)
		rte_eth_promiscuous_enable(up->port);
	port_link_update(&up->link);
}

int
uplink_start(struct uplink *up, struct uplink_plan *plan, const struct config *cfg,
	struct rte_mempool *pool)
{
	int ret;

	if (!up->present)
		return 0;
	port_buffers_begin(&up->buffers, up->port, up->nb_txq, pool);
	ret = rte_eth_dev_configure(up->port, up->nb_rxq, up->nb_txq, &plan->conf);
	if (ret == 0)
		ret = setup_queues(up, plan, pool);
	if (ret == 0)
		ret = rte_eth_dev_start(up->port);
	if (ret == 0 && up->steering->started != NULL)
		ret = up->steering->started(up);
	if (ret < 0) {
		RTE_LOG(ERR, UPLINK, "cannot start port %u: %s\n", up->port, strerror(-ret));
		return ret;
	}
	port_buffers_started(&up->buffers);
	if (cfg->promiscuous || up->steering->is_promiscuous) {
		ret = rte_eth_promiscuous_enable(up->port);
		up->promiscuous = ret == 0;
		if (ret < 0 && ret != -ENOTSUP)
			RTE_LOG(WARNING, UPLINK, "port %u cannot be promiscuous: %s\n", up->port,
				strerror(-ret));
	}
	log_port(up, plan);
	port_link_open(&up->link, "port", up->port);
	port_offloads_disable(&up->offloads, &up->link);
	wait_for_link(up);
	return 0;
}

uint32_t
uplink_close(struct uplink *up)
{
	uint32_t kept = 0;

	if (!up->present)
		return 0;
	port_offloads_restore(&up->offloads);
	port_link_close(&up->link);
	if (up->buffers.pool != NULL)
		kept = port_buffers_close(&up->buffers);
	else
		rte_eth_dev_close(up->port); /* never configured */
	up->present = false;
	return kept;
}

int
uplink_admit(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac)
{
	return uplink_has_filters(up) ? up->steering->admit(up, guest, mac) : 0;
}

void
uplink_withdraw(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac)
{
	if (uplink_has_filters(up))
		up->steering->withdraw(up, guest, mac);
}

static void
drain(struct uplink *up, struct uplink_queues queues)
{
	struct rte_mbuf *frames[BURST_MAX];
	uint16_t q, n, left;

	for (q = queues.first; q < queues.first + queues.count; q++) {
		/* A ring full at most: what comes in meanwhile is caught by the check of VLAN. */
		for (left = up->nb_rxd; left >= BURST_MAX; left -= BURST_MAX) {
			n = uplink_receive(up, q, frames);
			rte_pktmbuf_free_bulk(frames, n);
			if (n == 0)
				break;
		}
	}
}

void
uplink_drain(struct uplink *up, uint16_t guest)
{
	if (up->present)
		drain(up, uplink_guest_queues(up, guest));
}

void
uplink_drain_pool(struct uplink *up, uint16_t pool)
{
	drain(up, (struct uplink_queues){ .count = up->pool_queues,
		.first = (uint16_t)(up->first_queue + pool * up->pool_queues) });
}
