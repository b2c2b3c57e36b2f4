/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_RELAY_H
#define VHOST_RELAY_H

/**
 * @file
 * The thread between front ends and librte_vhost: it lets connections come and go.
 *
 * One thread, an epoll, and nothing in it that blocks. librte_vhost serves one socket that has no
 * name any more, so nobody but the relay can connect there. The relay does so for one connection at
 * a time, which is how a vid is known to belong to it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vhost/connection.h"

/**
 * Start the relay. Main thread.
 *
 * @param sockets where front ends come, and places for more; must stay until relay_stop()
 * @param n how many
 * @param back descriptor of the socket that librte_vhost serves
 * @return 0 or a negative errno
 */
int relay_start(struct vhost_socket *sockets, unsigned int n, int back);

/**
 * Have the relay's thread do something, and wait until it has. Main thread or control loop.
 *
 * @param call what
 * @param arg passed to it
 */
void relay_call(void (*call)(void *arg), void *arg);

/**
 * Take front ends by a socket, or no more. The relay's thread, by relay_call().
 *
 * @param socket one of those that relay_start() was given
 */
void relay_open_socket(void *socket);

/** The same, for the end: hang up on all that came by it. */
void relay_close_socket(void *socket);

/** End the relay's thread. Connections stay open. Main thread. */
void relay_stop(void);

/** Close all connections, after librte_vhost has forgotten its devices. Main thread, no relay. */
void relay_close(void);

/**
 * librte_vhost has accepted the relay's connection. Its thread.
 *
 * @param vid its handle
 * @param rcu in which workers report quiescent states
 * @return the connection that it is for, or NULL when there is none
 */
struct connection *relay_claim(int vid, struct rte_rcu_qsbr *rcu);

/**
 * A device was forgotten. librte_vhost's thread.
 *
 * @param vid its handle
 */
void relay_release(int vid);

/**
 * The connection of a device. librte_vhost's thread, or one that holds the device.
 *
 * @param vid its handle
 * @return the connection, NULL for an unknown device
 */
struct connection *relay_find(int vid);

/**
 * Wait for an event of a descriptor. The relay's thread, or the main thread before it runs.
 *
 * @param source what is to be called
 * @param once one time only, until relay_rearm()
 * @return 0 or a negative errno
 */
int relay_watch(struct poll_source *source, bool once);

/**
 * Wait for the next event of a descriptor that was watched once. The relay's thread.
 *
 * @param source the same
 */
void relay_rearm(struct poll_source *source);

/**
 * Ask for a device of librte_vhost; connection_advance() is called when it is there. The relay's
 * thread.
 *
 * @param c a connection in the state CONNECTION_AWAITS_DEVICE
 */
void relay_need_device(struct connection *c);

/**
 * Note that librte_vhost has closed a connection that it made no device for. The relay's thread.
 *
 * @param c the connection
 * @return whether it was waiting for a device
 */
bool relay_give_up_device(struct connection *c);

/**
 * Wait for no more events of a descriptor. The relay's thread.
 *
 * @param source the same as in relay_watch()
 */
void relay_forget(struct poll_source *source);

/** eventfd that makes the relay look after its connections. */
int relay_wake_fd(void);

/** Whether a descriptor number is among the last, which are kept for librte_vhost and workers. */
bool relay_is_reserved(int fd);

/** Milliseconds of a clock that only goes forward. */
uint64_t relay_now_ms(void);

#endif /* VHOST_RELAY_H */
