/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_BUFFERS_H
#define UPLINK_BUFFERS_H

/**
 * @file
 * The mbufs that a port has: what its driver takes when it starts, and what comes back of that when
 * it is closed.
 *
 * Most drivers free all they have when a port is closed. net_af_xdp does not: the mbufs in the
 * kernel's fill ring are forgotten, since it registers the memory of the whole pool and expects the
 * pool to go with the port. So they are missing though nobody has lost them.
 *
 * Threads: all by the main thread, while no worker runs.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_mempool.h>

/** What a port has. */
struct port_buffers {
	struct rte_mempool *pool;
	uint16_t port;
	uint16_t nb_txq;
	bool started;
	uint32_t held; /**< mbufs that the driver took at start, and has while it runs */
};

/**
 * How many mbufs a driver may have beyond those that its descriptors are for.
 *
 * @param info of the port
 * @param nb_queues number of its receive queues
 * @return mbufs
 */
uint32_t port_buffers_extra(const struct rte_eth_dev_info *info, uint16_t nb_queues);

/**
 * Remember the port, before its queues are set up.
 *
 * @param[out] b what it has: nothing yet
 * @param port the port
 * @param nb_txq number of its transmit queues
 * @param pool where its mbufs come from
 */
void port_buffers_begin(struct port_buffers *b, uint16_t port, uint16_t nb_txq,
	struct rte_mempool *pool);

/**
 * Count what the driver has taken, after the port has started.
 *
 * @param b from port_buffers_begin()
 */
void port_buffers_started(struct port_buffers *b);

/**
 * Stop and close the port, and log if that fails or if the driver keeps mbufs.
 *
 * @param b from port_buffers_begin()
 * @return number of mbufs that its driver keeps
 */
uint32_t port_buffers_close(struct port_buffers *b);

#endif /* UPLINK_BUFFERS_H */
