/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_UPLINK_H
#define UPLINK_UPLINK_H

/**
 * @file
 * The NIC port, or none: the only face of this room.
 *
 * What comes from the NIC is steered to guests in one of four ways, chosen at start from what the
 * port says of itself and from --dcb. With VMDQ (vmdq.c) the NIC keeps a pool of queues for each
 * guest and fills it by MAC and VLAN; with VMDQ and DCB (dcb.c) each pool has a queue for each
 * traffic class. Each worker polls the pools of its own guests. Without VMDQ (software.c) there is
 * one receive queue, polled by the first worker. With named ports on a NIC that can change the
 * filters of its pools while it runs (pools.c), guests get pools as they come, and the first worker
 * polls the default pool, which has what is in no filter. In all cases the switch looks at MAC and
 * VLAN of every frame before it delivers it, so a NIC's mistakes end there, and in all cases it
 * asks uplink_guest_queues() and uplink_common_queues() what to poll: the rest of the program
 * cannot tell the difference.
 *
 * A fifth way to steer is one more struct steering, and a line in uplink_open().
 *
 * Threads: opening, starting and closing by the main thread. uplink_admit(), uplink_withdraw() and
 * uplink_drain() under the guest table's mutex, and so is all of pools.h. uplink_watch_link() by
 * the control loop. uplink_receive() by the one worker that polls the queue. Transmit queues belong
 * to workers, and where the port has fewer than workers they are shared under a spinlock; or they
 * belong to guests (tx_by_pool), each of which has one worker. With pools.c many guests may send by
 * the default pool's, so there they are shared too.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_spinlock.h>

#include "main.h"
#include "uplink/buffers.h"
#include "uplink/offloads.h"
#include "uplink/pools.h"

/** User priorities of a VLAN tag (IEEE 802.1Q-2018, 9.6: PCP). */
#define PRIORITIES 8

struct uplink;

/** What uplink_open() has to find out and decide before it can set the port up. */
struct uplink_plan {
	struct rte_eth_dev_info info;
	bool has_loopback; /**< the NIC can switch between its pools */
	bool has_pool_vlans; /**< a pool's VLANs can be changed while the port runs */
	bool has_dcb;	   /**< the NIC has traffic classes */
	struct rte_eth_conf conf;
	uint16_t nb_rxq;
	uint16_t nb_txq; /**< 0: as many as there are workers */
	uint16_t guest_limit;
};

/** Receive queues: count of them from first on. */
struct uplink_queues {
	uint16_t first;
	uint16_t count;
};

/** A way to get frames from the NIC to the guest that they are for. */
struct steering {
	const char *name; /**< for the log line at start */
	bool is_promiscuous; /**< the NIC has no guest's MAC: the port lets every frame in */
	bool shares_queue;   /**< one receive queue serves all guests, and its ring is longer */

	/** Fill in the receive side of a plan. 0, or a negative errno after a log line. */
	int (*plan)(struct uplink *up, const struct config *cfg, struct uplink_plan *plan);

	/** Called when the port runs, may be NULL. 0 or a negative errno. */
	int (*started)(struct uplink *up);

	/**
	 * Let a guest's frames in; NULL, as withdraw: the NIC has no filters. 0 or a negative
	 * errno.
	 */
	int (*admit)(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);

	/** Keep them out again. */
	void (*withdraw)(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);
};

extern const struct steering steering_vmdq, steering_dcb, steering_software, steering_software_vmdq;
extern const struct steering steering_assigned, steering_assigned_dcb; /* pools.c */

/** The uplink. Constant once it is open, but for the locks, the link, and who has which pool. */
struct uplink {
	bool present; /**< false: -p 0x0, every other function does nothing then */
	uint16_t port;
	uint16_t nb_rxq;
	uint16_t nb_txq;
	uint16_t nb_rxd, nb_txd;
	uint16_t nb_rxd_common; /**< of the common queues */
	uint16_t guest_limit;
	const struct steering *steering;
	bool vlan_strip;	/**< tags are to be stripped on the way to a guest */
	bool vlan_insert_hw;	/**< the NIC inserts tags */
	uint64_t tx_offloads;	/**< RTE_ETH_TX_OFFLOAD_* in use */
	uint16_t pool_queues;	/**< VMDQ: queues of a pool; software: 0 */
	uint16_t first_queue;	/**< VMDQ: queue of pool 0, after those of the PF */
	uint16_t first_pool;	/**< VMDQ: pool of guest 0 */
	struct uplink_queues common; /**< bring frames for any guest */
	bool assigns_pools;	/**< pools are given to guests while the switch runs: pools.h */
	bool pools_untagged;	/**< then: pools accept untagged frames for their addresses */
	uint16_t nb_pools;	/**< then: how many pools there are, the default pool included */
	uint16_t mac_filters;	/**< then: addresses that pools can have */
	struct rte_ether_addr own_mac; /**< then: the port's, for which no pool has a filter */
	bool loopback;		/**< --vm2vm 2: the NIC switches between guests */
	bool tx_by_pool;	/**< a guest's frames leave by a queue of its pool */
	bool tx_default_pool;	/**< then: whoever sends, of the default pool */
	uint8_t tx_class[PRIORITIES]; /**< DCB: which of the pool's queues, by priority */
	bool txq_shared;	/**< fewer transmit queues than workers */
	rte_spinlock_t txq_lock[RTE_MAX_QUEUES_PER_PORT];
	bool promiscuous;	/**< it is to be */
	struct port_buffers buffers;
	uint32_t extra_mbufs; /**< that its driver has beyond its descriptors */
	struct port_link link;
	struct port_offloads offloads;
	uint8_t pool_of[ID_MAX]; /**< if assigned: pool of a guest, 0: the default pool; atomic */
	struct uplink_filters filters; /**< if assigned: what the NIC has; under the mutex */
	struct uplink_filters switched[2]; /**< what workers know of that; see uplink_switch() */
	const struct uplink_filters *switches; /**< one of these, or NULL; atomic */
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
 * @return number of mbufs that the driver keeps
 */
uint32_t uplink_close(struct uplink *up);

/**
 * Whether the NIC has to be given a guest's MAC before frames for it come in. Any thread.
 *
 * @param up the uplink
 */
static inline bool
uplink_has_filters(const struct uplink *up)
{
	return up->present && up->steering->admit != NULL;
}

/**
 * Have frames for a guest's MAC and VLAN come in. Under the guest table's mutex.
 *
 * @param up the uplink
 * @param guest device id
 * @param mac its MAC
 * @return 0; -EADDRINUSE if the address is the NIC's own, or another negative errno
 */
int uplink_admit(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);

/**
 * Keep them out again. Under the guest table's mutex.
 *
 * @param up the uplink
 * @param guest device id
 * @param mac its MAC
 */
void uplink_withdraw(struct uplink *up, uint16_t guest, const struct rte_ether_addr *mac);

/**
 * Empty a guest's queues: what the NIC put there is not for who gets the id next. Under the guest
 * table's mutex, when no worker polls the queues.
 *
 * @param up the uplink
 * @param guest device id
 */
void uplink_drain(struct uplink *up, uint16_t guest);

/** uplink_drain() by the number of a pool. */
void uplink_drain_pool(struct uplink *up, uint16_t pool);

/**
 * Look at the link, and log a line when it has come or gone. The control loop, each second.
 *
 * @param up the uplink
 */
void uplink_watch_link(struct uplink *up);

/**
 * What to wait for beside the second that passes between two calls of uplink_watch_link().
 *
 * @param up the uplink
 * @return a descriptor that is readable when the link may have changed, or -1
 */
static inline int
uplink_link_fd(const struct uplink *up)
{
	return up->present ? up->link.notify_fd : -1;
}

/**
 * The pool of a guest. Any thread.
 *
 * @param up an uplink with pools
 * @param guest device id
 * @return number of its pool; where pools are assigned, 0 for a guest without
 */
static inline uint16_t
uplink_pool(const struct uplink *up, uint16_t guest)
{
	return up->assigns_pools ? __atomic_load_n(&up->pool_of[guest], __ATOMIC_ACQUIRE) : guest;
}

/**
 * Which queues bring frames for a guest alone. Its worker polls them, from the last to the first:
 * with DCB that is from the highest class to the lowest.
 *
 * @param up the uplink
 * @param guest device id
 * @return its queues; none where they are among the common ones
 */
static inline struct uplink_queues
uplink_guest_queues(const struct uplink *up, uint16_t guest)
{
	struct uplink_queues own = {
		.first = (uint16_t)(up->first_queue + uplink_pool(up, guest) * up->pool_queues),
		.count = up->pool_queues,
	};

	if (own.first < up->common.first + up->common.count)
		own.count = 0;
	return own;
}

/**
 * Which queues bring frames for any guest. The first worker polls them all in each round.
 *
 * @param up the uplink
 * @return queues; none where each guest has its own
 */
static inline struct uplink_queues
uplink_common_queues(const struct uplink *up)
{
	return up->common;
}

/**
 * Which queues the NIC keeps for its physical function, before those of the pools. There may be
 * many, and little comes there: the first worker polls one of them in each round.
 *
 * @param up the uplink
 * @return queues
 */
static inline struct uplink_queues
uplink_pf_queues(const struct uplink *up)
{
	return (struct uplink_queues){ .first = 0, .count = up->first_queue };
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
 * Which transmit queue a frame leaves by.
 *
 * @param up the uplink
 * @param worker index of the calling worker
 * @param sender device id of the guest that sent it
 * @param priority 0 to PRIORITIES - 1, of its tag
 * @return transmit queue
 */
static inline uint16_t
uplink_tx_queue(const struct uplink *up, unsigned int worker, uint16_t sender,
	unsigned int priority)
{
	if (!up->tx_by_pool)
		return (uint16_t)(worker % up->nb_txq);
	return (uint16_t)(up->first_queue + up->tx_class[priority] +
		(up->tx_default_pool ? 0 : uplink_pool(up, sender) * up->pool_queues));
}

/**
 * Give frames to the NIC. A worker, with a queue that uplink_tx_queue() gave it.
 *
 * @param up the uplink
 * @param queue transmit queue
 * @param frames ready for the NIC's offloads; those that it takes are its own from now on
 * @param n number of frames
 * @return how many of them, from the first on, the NIC has now
 */
static inline uint16_t
uplink_transmit(struct uplink *up, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t sent;

	if (!up->txq_shared)
		return rte_eth_tx_burst(up->port, queue, frames, n);
	rte_spinlock_lock(&up->txq_lock[queue]);
	sent = rte_eth_tx_burst(up->port, queue, frames, n);
	rte_spinlock_unlock(&up->txq_lock[queue]);
	return sent;
}

#endif /* UPLINK_UPLINK_H */
