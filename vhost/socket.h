/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_SOCKET_H
#define VHOST_SOCKET_H

/**
 * @file
 * The vhost-user sockets by which guests come, and the virtio features they are offered.
 *
 * Called by the main thread, and for named ports by the control loop, unless a function says
 * otherwise. The callbacks of librte_vhost's own thread go to the ports by struct port_ops.
 */

#include <rte_rcu_qsbr.h>

#include "cli/ports.h"
#include "main.h"
#include "vhost/vring.h"

struct guests;

/** What the vhost thread calls when devices come and go. */
struct port_ops {
	/** It runs. 0 or a negative errno. */
	int (*start)(struct guests *guests, struct device *d);
	void (*leave)(struct guests *guests, struct device *d); /**< its connection has ended */
	/** A virtqueue was enabled. */
	void (*check)(struct guests *guests, struct device *d);
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
 * See that the sockets of named ports can be made: like sockets_check(), with an error line instead
 * of stderr. By the main thread at start, or by the control loop before it uses a new list.
 *
 * @param cfg the configuration, with the other sockets
 * @param ports the list to check
 * @param in_use the list in use, whose sockets this switch serves itself; NULL: none
 * @param[out] error one line if it fails
 * @return 0 or a negative errno
 */
int sockets_check_ports(const struct config *cfg, const struct ports_config *ports,
	const struct ports_config *in_use, struct error_line *error);

/**
 * Make the sockets, replacing stale ones, and take guests from now on.
 *
 * @param cfg the configuration
 * @param ops where devices go; must outlive the sockets
 * @return 0, or a negative errno after a log line; call sockets_close() in both cases
 */
int sockets_open(const struct config *cfg, const struct port_ops *ops);

/**
 * Make the socket of a named port, or begin to connect to it. Main thread after sockets_open(), or
 * control loop.
 *
 * @param settings the port's
 * @param port the port, to be found in the devices of front ends that come
 * @return the socket, NULL after a log line
 */
struct vhost_socket *socket_open_port(const struct port_settings *settings, struct port *port);

/**
 * Disconnect a port's guest and remove its socket. Waits until the guest has left. Control loop.
 *
 * @param s from socket_open_port()
 */
void socket_close_port(struct vhost_socket *s);

/** How many second connections to a port's socket were refused. Any thread. */
uint64_t socket_refused(const struct vhost_socket *s);

/**
 * Disconnect all guests, close and remove the sockets. Workers must be gone, or running: not
 * stopped within a round.
 */
void sockets_close(void);

#endif /* VHOST_SOCKET_H */
