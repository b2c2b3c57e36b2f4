/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_LIBRARY_H
#define VHOST_LIBRARY_H

/**
 * @file
 * librte_vhost: the one socket that it serves, the features that it offers, and its callbacks.
 *
 * Opened and closed by the main thread. The callbacks run in librte_vhost's own thread and go to
 * the ports by struct port_ops.
 */

#include <stdbool.h>
#include <stdint.h>

#include "main.h"
#include "vhost/socket.h"

/**
 * Let librte_vhost serve its socket.
 *
 * @param cfg the configuration
 * @param ops where devices go; must outlive it
 * @return 0 or a negative errno; call library_close() in both cases
 */
int library_open(const struct config *cfg, const struct port_ops *ops);

/** The descriptor by which the relay connects to that socket. */
int library_fd(void);

/** Forget all devices. No relay runs any more. */
void library_close(void);

/**
 * Virtio features that front ends of a socket are not to be offered. Any thread.
 *
 * @param mergeable offer mergeable receive buffers
 * @param tso offer TCP segmentation, which needs checksums
 * @param csum offer checksums
 * @return the other features of these, and those that are never offered
 */
uint64_t library_not_offered(bool mergeable, bool tso, bool csum);

#endif /* VHOST_LIBRARY_H */
