/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_SOCKET_H
#define VHOST_SOCKET_H

/**
 * @file
 * The vhost-user sockets by which guests come, and the virtio features they are offered.
 *
 * Main thread only. The callbacks of librte_vhost's own thread go to the ports by struct port_ops.
 */

#include <rte_rcu_qsbr.h>

#include "main.h"
#include "vhost/vring.h"

struct guests;

/** What the vhost thread calls when devices come and go. */
struct port_ops {
	/** It runs. 0 or a negative errno. */
	int (*start)(struct guests *guests, struct device *d);
	void (*leave)(struct guests *guests, struct device *d); /**< its connection has ended */
	/** A virtqueue was enabled. */
	void (*check)(const struct guests *guests, struct device *d);
	struct guests *guests;
	struct rte_rcu_qsbr *rcu; /**< in which workers report quiescent states */
	int wake_fd;		  /**< eventfd to write to when a guest's memory is gone */
};

/**
 * See that the sockets of a configuration can be made, before anything is started. Prints one
 * line to stderr when one cannot: path too long or given twice, no socket, or in use by a living
 * server. Deletes nothing. May run before EAL.
 *
 * @param cfg the configuration
 * @return 0 or a negative errno
 */
int sockets_check(const struct config *cfg);

/**
 * Make the sockets, replacing stale ones, and take guests from now on.
 *
 * @param cfg the configuration
 * @param ops where devices go; must outlive the sockets
 * @return 0, or a negative errno after a log line; call sockets_close() in both cases
 */
int sockets_open(const struct config *cfg, const struct port_ops *ops);

/**
 * Disconnect all guests, close and remove the sockets. Workers must be gone, or running: not
 * stopped within a round.
 */
void sockets_close(void);

#endif /* VHOST_SOCKET_H */
