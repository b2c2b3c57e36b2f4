/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_TRANSLATOR_H
#define CUSE_TRANSLATOR_H

/**
 * @file
 * From vhost-net ioctls to vhost-user messages.
 *
 * A front end stands for one open of the device: one connection to librte_vhost, so one guest. The
 * kernel's vhost-net accepts the ioctls of a ring in any order, and all that it was told stays
 * valid when its backend is taken away. librte_vhost accepts one order, and forgets half of it when
 * a ring stops. So the front end remembers what it was told, and tells librte_vhost when a ring
 * gets its backend (backend.h). What is wrong with a call is found here, by descriptor.c and
 * memory.c, or by librte_vhost, which tells by its acknowledgement (vhost-user specification,
 * REPLY_ACK); then the caller gets an errno, the log a line, and all goes on.
 *
 * The device's thread only. Descriptors of guest memory are closed when the message has been sent:
 * librte_vhost has its own by then. Those of a ring's eventfds stay, to be sent again.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct translator;

/**
 * Connect a front end.
 *
 * @param socket path of the private vhost-user socket
 * @param[out] t the front end
 * @return 0 or a negative errno
 */
int translator_create(const char *socket, struct translator **t);

/**
 * Disconnect it: its guest leaves.
 *
 * @param t the front end
 */
void translator_destroy(struct translator *t);

/**
 * How many bytes an ioctl reads from its caller's memory and writes there.
 *
 * @param cmd the command, any
 * @param header what the caller passed, as far as it is known; it matters for VHOST_SET_MEM_TABLE,
 *   whose regions are read when it has a number of them that is accepted
 * @param len bytes of it, 0: nothing is known yet
 * @param[out] in bytes that it reads
 * @param[out] out bytes that it writes
 */
void translator_sizes(unsigned int cmd, const void *header, size_t len, size_t *in, size_t *out);

/**
 * Carry an ioctl out.
 *
 * @param t the front end
 * @param thread id of the calling thread
 * @param cmd the command
 * @param in what the caller passed, as long as translator_sizes() says of it
 * @param[out] out what it gets back
 * @return 0 or a negative errno, which the log has a line for: -ENOTTY for a command that is not
 *   known
 */
int translator_ioctl(struct translator *t, pid_t thread, unsigned int cmd, const void *in,
	void *out);

#endif /* CUSE_TRANSLATOR_H */
