/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_TRANSLATOR_H
#define CUSE_TRANSLATOR_H

/**
 * @file
 * From vhost-net ioctls to vhost-user messages.
 *
 * A front end stands for one open of the device: one connection to librte_vhost, so one guest. It
 * keeps no more state than it takes to answer as the kernel's vhost-net does. What is wrong with a
 * call is found here, by descriptor.c and memory.c, or by librte_vhost, which tells by its
 * acknowledgement (vhost-user specification, REPLY_ACK); then the caller gets an errno, the log a
 * line, and all goes on.
 *
 * The device's thread only. Descriptors that were taken over are closed when the message has been
 * sent: librte_vhost has its own by then.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct front_end;

/**
 * Connect a front end.
 *
 * @param socket path of the private vhost-user socket
 * @param[out] fe the front end
 * @return 0 or a negative errno
 */
int front_end_create(const char *socket, struct front_end **fe);

/**
 * Disconnect it: its guest leaves.
 *
 * @param fe the front end
 */
void front_end_destroy(struct front_end *fe);

/**
 * How many bytes an ioctl reads from its caller's memory and writes there.
 *
 * @param cmd the command
 * @param[out] in bytes that it reads; for VHOST_SET_MEM_TABLE those before the regions
 * @param[out] out bytes that it writes
 * @return 0, or -ENOTTY for a command that is not known
 */
int front_end_sizes(unsigned int cmd, size_t *in, size_t *out);

/**
 * Carry an ioctl out.
 *
 * @param fe the front end
 * @param thread id of the calling thread
 * @param cmd a command that front_end_sizes() knows
 * @param in what the caller passed, as long as front_end_sizes() says, or with its regions
 * @param[out] out what it gets back
 * @return 0 or a negative errno, which the log has a line for
 */
int front_end_ioctl(struct front_end *fe, pid_t thread, unsigned int cmd, const void *in, void *out);

#endif /* CUSE_TRANSLATOR_H */
