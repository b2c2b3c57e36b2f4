/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_CONNECTION_H
#define VHOST_CONNECTION_H

/**
 * @file
 * A connection of a front end, from the first byte to the last.
 *
 * A front end connects to the switch, not to librte_vhost. The relay (relay.h) reads its messages,
 * each as the bytes come, checks them (check.h), and passes them on to librte_vhost by a second
 * connection, one at a time: the next is read when the last was answered. librte_vhost is made to
 * acknowledge every message (REPLY_ACK), so that the relay knows what became of it, and gets whole
 * messages only, with descriptors of known types. So neither a front end that stops in the middle
 * of a message nor one that does not read its replies makes any other wait.
 *
 * There is one structure for a connection, found by vid in librte_vhost's thread. A place of the
 * table is free again when both connections are closed, the descriptors too, and librte_vhost has
 * forgotten the device.
 *
 * Functions are called by the relay's thread unless they say otherwise.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "main.h"
#include "vhost/check.h"
#include "vhost/fds.h"
#include "vhost/memory.h"
#include "vhost/vhost_user.h"
#include "vhost/vring.h"

/**
 * Connections open at once without a named port: twice as many as there can be guests, since a
 * front end that starts again comes before the old connection has ended.
 */
#define CONNECTION_MAX (2 * GUEST_MAX)

/** Places in the table: connections that cannot be closed yet keep theirs. */
#define CONNECTION_PLACES (2 * (CONNECTION_MAX + PORT_MAX))

/** How long a front end that does not become a guest keeps its place when all are taken, ms. */
#define CONNECTION_IDLE_MS 10000

/** Something in the relay's epoll. */
struct poll_source {
	int fd; /**< -1: none */
	void (*ready)(struct poll_source *source);
};

struct port;

/** A path by which front ends come. Constant while the relay runs, but for what is marked. */
struct vhost_socket {
	struct poll_source listener; /**< fd is -1 with client */
	const char *path;
	bool client;	      /**< connect to it, and again when the connection has ended */
	bool internal;	      /**< of the CUSE device: its callers may take their time */
	struct port *port;    /**< its named port, NULL: it is for any number of guests */
	uint64_t not_offered; /**< virtio features that other sockets may offer */
	bool in_use;	      /**< written by the relay */
	bool paused;	      /**< nobody is let in by it until the next tick; the relay's own */
	bool refused_logged;  /**< that a second connection was refused; the relay's own */
	uint64_t nb_refused;  /**< second connections to a named port; atomic */
	unsigned int nb_open; /**< connections that have not ended; the relay's own */
	unsigned int nb_places; /**< of the table, that connections by it have; atomic */
	char own_path[108];   /**< of a named port, where path points to */
	bool connected;	      /**< client: there is a connection; the relay's own */
	uint64_t next_try_ms; /**< client: when to connect; the relay's own */
	struct stat made;     /**< what was made at its path; st_ino 0: nothing. Main thread */
};

enum connection_state {
	CONNECTION_FREE,
	CONNECTION_READS,	   /**< waits for a message, or for the rest of one */
	CONNECTION_AWAITS_DEVICE,  /**< has a message, and librte_vhost has no device yet */
	CONNECTION_AWAITS_REPLY,   /**< librte_vhost has the message */
	CONNECTION_AWAITS_CLOSING, /**< of descriptors that it sent */
	CONNECTION_ENDED,
};

enum device_state {
	DEVICE_NONE,
	DEVICE_PENDING, /**< the relay has connected, new_connection() has not been called */
	DEVICE_THERE,	/**< vid is valid */
	DEVICE_GONE,	/**< destroy_connection() was called */
};

/** A connection. The relay's own, but for what is marked. */
struct connection {
	enum connection_state state;
	struct poll_source front; /**< to the front end */
	struct poll_source back;  /**< to librte_vhost */
	struct vhost_socket *socket;
	uint64_t since_ms; /**< when it was made */
	uint64_t stuck_ms; /**< when closing of its descriptors began */
	struct vhost_user_message message;
	size_t have; /**< bytes of message that are here */
	int fds[FDS_MAX];
	int nb_fds;
	bool fds_known; /**< none of fds[] is of kind FDS_OTHER */
	struct fds_batch arrived; /**< descriptors that came with what was read last */
	struct fds_batch dropped; /**< those of the message in hand, on their way to be closed */
	uint32_t last_request;
	bool greeted; /**< it has sent SET_OWNER, as an honest one does at once */
	bool logged;
	bool failed;	/**< librte_vhost did not carry a message out */
	bool disabling; /**< in the middle of RESET_OWNER */
	struct negotiated negotiated;

	int vid;     /**< written by librte_vhost's thread before device */
	int has_device; /**< enum device_state, atomic */
	int was_guest; /**< atomic, set by librte_vhost's thread */
	struct memory_files files;
	struct device device;	   /**< from DEVICE_THERE to DEVICE_GONE */
};

/** What all connections share. The relay's own, but for the offer, which is constant by then. */
struct connections_shared {
	uint64_t features, protocol_features; /**< offered */
	uint64_t mapped;		      /**< bytes of address space that they have mapped */
	unsigned int nb_open; /**< connections without a named port that have not ended */
};

/** The one that all connections share. */
struct connections_shared *connections_shared(void);

/**
 * Take a place for a connection. There must be one.
 *
 * @param fd the connection, not blocking
 * @param s the path that it came by
 */
void connection_create(int fd, struct vhost_socket *s);

/**
 * Hang up. The place becomes free when nothing needs it any more.
 *
 * @param c the connection
 */
void connection_end(struct connection *c);

/**
 * Look what can go on: a device is there or gone, descriptors are closed.
 *
 * @param c the connection
 */
void connection_advance(struct connection *c);

/**
 * End it when its time is over.
 *
 * @param c the connection
 * @param now_ms the time now
 */
void connection_check_time(struct connection *c, uint64_t now_ms);

/**
 * The connection at a place of the table.
 *
 * @param i below CONNECTION_PLACES
 */
struct connection *connection_at(unsigned int i);

/** Whether there is a place for one more. */
bool connection_has_place(void);

#endif /* VHOST_CONNECTION_H */
