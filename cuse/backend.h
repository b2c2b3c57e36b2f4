/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_BACKEND_H
#define CUSE_BACKEND_H

/**
 * @file
 * The back of a translator: its connection to librte_vhost, and the rings that librte_vhost has of
 * it.
 *
 * A ring is attached when librte_vhost has been told all of it, and detached when it has given back
 * the index that it came to. What the client said of a ring stays here in both cases.
 *
 * The device's thread only. Functions that return an int return 0 or a negative errno, -EIO when
 * nobody knows what became of a message; t->why then says more, if there is more to say.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/vhost.h>

#include "cuse/memory.h"
#include "vhost/vhost_user.h"

/** vhost-net has two rings: 0 is the guest's receive ring, 1 its transmit ring. */
#define RINGS 2

/** A ring: what the client said of it. */
struct ring {
	uint32_t num;	   /**< descriptors */
	uint32_t base;	   /**< the next avail entry to use, unless librte_vhost has the ring */
	uint32_t busyloop; /**< microseconds; for VHOST_GET_VRING_BUSYLOOP_TIMEOUT alone */
	struct vhost_vring_addr addr;
	int kick, call; /**< descriptors of our own; -1: none */
	bool running;	/**< it has a backend */
	bool attached;	/**< librte_vhost has it */
};

/** One open of the device. */
struct translator {
	const char *path;
	int sock;
	uint64_t features;   /**< that can be had */
	uint64_t negotiated; /**< those of the last VHOST_SET_FEATURES */
	pid_t owner;	     /**< the process that called VHOST_SET_OWNER, 0: none */
	bool has_table;	     /**< there was a VHOST_SET_MEM_TABLE, perhaps one without regions */
	int nb_regions;	     /**< of guest memory; their descriptors are closed */
	struct memory_region regions[MEMORY_REGIONS_MAX];
	struct ring rings[RINGS];
	unsigned int complaints;
	pid_t process;	 /**< of the call in hand */
	const char *why; /**< it was refused, where the errno does not say enough */
};

/**
 * Begin a new life as a vhost-user front end: connect to t->path, and find out t->features.
 *
 * @param t a translator without a connection
 */
int backend_connect(struct translator *t);

/**
 * End the connection.
 *
 * @param t the translator
 * @param error passed through
 * @return error
 */
int backend_hang_up(struct translator *t, int error);

/** Forget all that the client said. */
void backend_forget(struct translator *t);

/**
 * Send a message of which request, size and payload are set, and wait for its acknowledgement.
 *
 * @param t the translator
 * @param m the message; what came back is left there
 * @param fds descriptors that go with it
 * @param nb_fds how many
 */
int backend_send(struct translator *t, struct vhost_user_message *m, const int *fds, int nb_fds);

/** backend_send() of a request with one number. */
int backend_send_u64(struct translator *t, enum vhost_user_request request, uint64_t value);

/** backend_send() of the addresses of ring i. */
int backend_send_address(struct translator *t, unsigned int i);

/** backend_send() of an eventfd of ring i; fd is -1 for none. */
int backend_send_eventfd(struct translator *t, enum vhost_user_request request, unsigned int i,
	int fd);

/**
 * Whether ring i could be reached at other addresses.
 *
 * @param t the translator; t->why is set if not
 * @param i the ring
 * @param addr the addresses
 */
bool backend_is_reachable(struct translator *t, unsigned int i,
	const struct vhost_vring_addr *addr);

/** Take ring i away from librte_vhost, and remember where it has come to. The device stops. */
int backend_detach(struct translator *t, unsigned int i);

/** Let ring i run, or rest. */
int backend_enable(struct translator *t, unsigned int i, bool on);

/** Take all rings away for a change that librte_vhost refuses while it has them. */
int backend_detach_all(struct translator *t);

/** Attach rings that run and are detached. */
int backend_resume(struct translator *t);

/** Replace a descriptor that is stored; -1: by none. */
void replace_descriptor(int *stored, int fd);

#endif /* CUSE_BACKEND_H */
