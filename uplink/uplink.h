/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_UPLINK_H
#define UPLINK_UPLINK_H

/**
 * @file
 * The NIC port, or none: the only face of this room.
 *
 * What comes from the NIC is steered to guests in one of two ways, chosen at start from what the
 * port says of itself. With VMDQ (vmdq.c) the NIC keeps a pool of queues for each guest and fills
 * it by MAC and VLAN; each worker polls the pools of its own guests. Without (software.c) there is
 * one receive queue, polled by the first worker. In both cases the switch looks at MAC and VLAN of
 * every frame before it delivers it, so a NIC's mistakes end there, and in both cases it asks
 * uplink_queues() what to poll: the rest of the program cannot tell the difference.
 *
 * A third way to steer is one more struct steering, and a line in uplink_open().
 *
 * Threads: opening and closing by the main thread. uplink_admit() and uplink_withdraw() under the
 * guest table's mutex. uplink_receive() by the one worker that polls the queue. Each worker has a
 * transmit queue of its own; where the port has fewer, workers share them under a spinlock.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_spinlock.h>

#include "main.h"

struct uplink;

/** What uplink_open() has to find out and decide before it can set the port up. */
struct uplink_plan {
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf;
	uint16_t nb_rxq;
	uint16_t guest_limit;
};

/** A way to get frames from the NIC to the guest that they are for. */
struct steering {
	const char *name; /**< for the log line at start */

	/** Fill in the receive side of a plan. 0, or a negative errno after a log line. */
	int (*plan)(struct uplink *up, const struct config *cfg, struct uplink_plan *plan);

	/** Called when the port runs, may be NULL. 0 or a negative errno. */
	int (*started)(struct uplink *up);

	/** Let a guest's frames in. 0 or a negative errno. */
	int (*admit)(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);

	/** Keep them out again, and empty its queues. */
	void (*withdraw)(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);
};

extern const struct steering steering_vmdq, steering_software;

/** The uplink. Constant once it is open, but for the locks. */
struct uplink {
	bool present; /**< false: -p 0x0, every other function does nothing then */
	uint16_t port;
	uint16_t nb_rxq;
	uint16_t nb_txq;
	uint16_t nb_rxd, nb_txd;
	uint16_t guest_limit;
	const struct steering *steering;
	bool vlan_strip;	/**< tags are to be stripped on the way to a guest */
	bool vlan_insert_hw;	/**< the NIC inserts tags */
	uint64_t tx_offloads;	/**< RTE_ETH_TX_OFFLOAD_* in use */
	uint16_t pool_queues;	/**< VMDQ: queues of a pool; software: 0 */
	uint16_t first_queue;	/**< VMDQ: queue of pool 0 */
	uint16_t first_pool;	/**< VMDQ: pool of guest 0 */
	bool txq_shared;	/**< fewer transmit queues than workers */
	rte_spinlock_t txq_lock[RTE_MAX_QUEUES_PER_PORT];
};

/** Receive queues: count of them from first on. */
struct uplink_queues {
	uint16_t first;
	uint16_t count;
};

/**
 * Find and size the port of a configuration, but start nothing.
 *
 * @param[out] up the uplink
 * @param[out] plan what uplink_start() will do
 * @param cfg the configuration
 * @param nb_workers number of workers, each of which transmits
 * @return 0, or a negative errno after a line on stderr that names the option to blame
 */
int uplink_open(struct uplink *up, struct uplink_plan *plan, const struct config *cfg,
	unsigned int nb_workers);

/**
 * How many mbufs the port's descriptors hold.
 *
 * @param up an open uplink
 * @return mbufs
 */
uint32_t uplink_mbufs(const struct uplink *up);

/**
 * Configure and start the port.
 *
 * @param up an open uplink
 * @param plan from uplink_open()
 * @param cfg the configuration
 * @param pool where received frames go
 * @return 0, or a negative errno after a log line
 */
int uplink_start(struct uplink *up, struct uplink_plan *plan, const struct config *cfg,
	struct rte_mempool *pool);

/**
 * Stop and close the port; its mbufs come back to the pool. Workers must be gone.
 *
 * @param up an uplink, open or not
 */
void uplink_close(struct uplink *up);

/**
 * Have frames for a guest's MAC and VLAN come in. Under the guest table's mutex.
 *
 * @param up the uplink
 * @param guest device id
 * @param mac key of its MAC, see fdb_key()
 * @return 0 or a negative errno
 */
int uplink_admit(struct uplink *up, uint16_t guest, uint64_t mac);

/**
 * Keep them out again and empty the guest's queues. Under the guest table's mutex, when no worker
 * polls the guest's queues any more.
 *
 * @param up the uplink
 * @param guest device id
 * @param mac key of its MAC
 */
void uplink_withdraw(struct uplink *up, uint16_t guest, uint64_t mac);

/**
 * Which queues bring frames for a guest.
 *
 * @param up the uplink
 * @param guest device id
 * @return its queues; none where steering is in software
 */
static inline struct uplink_queues
uplink_guest_queues(const struct uplink *up, uint16_t guest)
{
	return (struct uplink_queues){
		.first = (uint16_t)(up->first_queue + guest * up->pool_queues),
		.count = up->pool_queues,
	};
}

/**
 * Which queues bring frames that are for no guest in particular. The first worker polls them.
 *
 * @param up the uplink
 * @return with software steering the one queue; with VMDQ the queues before the pools
 */
static inline struct uplink_queues
uplink_common_queues(const struct uplink *up)
{
	uint16_t count = up->nb_rxq;

	if (up->pool_queues > 0)
		count = up->first_queue;
	return (struct uplink_queues){ .first = 0, .count = count };
}

/**
 * Take frames from the NIC. The worker that polls the queue.
 *
 * @param up the uplink
 * @param queue receive queue
 * @param[out] frames at least BURST_MAX
 * @return number of frames
 */
static inline uint16_t
uplink_receive(const struct uplink *up, uint16_t queue, struct rte_mbuf **frames)
{
	return rte_eth_rx_burst(up->port, queue, frames, BURST_MAX);
}

/**
 * Give frames to the NIC. Any worker.
 *
 * @param up the uplink
 * @param worker index of the calling worker
 * @param frames ready for the NIC's offloads; those that it takes are its own from now on
 * @param n number of frames
 * @return how many of them, from the first on, the NIC has now
 */
static inline uint16_t
uplink_transmit(struct uplink *up, unsigned int worker, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t queue = (uint16_t)(worker % up->nb_txq);
	uint16_t sent;

	if (!up->txq_shared)
		return rte_eth_tx_burst(up->port, queue, frames, n);
	rte_spinlock_lock(&up->txq_lock[queue]);
	sent = rte_eth_tx_burst(up->port, queue, frames, n);
	rte_spinlock_unlock(&up->txq_lock[queue]);
	return sent;
}

#endif /* UPLINK_UPLINK_H */
