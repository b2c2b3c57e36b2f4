/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_CUSE_H
#define CUSE_CUSE_H

/**
 * @file
 * The second way in: a character device that speaks the kernel's vhost-net ioctls, for a QEMU that
 * knows -netdev tap,vhost=on,vhostfd=N and nothing of vhost-user. The only face of this room.
 *
 * librte_vhost speaks vhost-user alone. So each open of the device becomes a vhost-user front end
 * (translator.c) on a private socket, which librte_vhost serves like any other, and each ioctl
 * becomes the message of the same meaning. What the message carries is taken from the calling
 * process: descriptors by descriptor.c, guest memory by memory.c. device.c is the character device
 * itself, by libfuse. Beyond the socket, a guest that came this way is a guest like the others.
 *
 * Threads: cuse_prepare(), cuse_open() and cuse_close() by the main thread. cuse_open() starts a
 * thread for the device; all front ends, and what they hold, are that thread's, which serves one
 * ioctl at a time. It may wait for librte_vhost's thread (that handles a message), never the other
 * way round, and never for a worker.
 *
 * In a build without VHOST_CUSE all of this is nothing.
 */

#include "main.h"

#ifdef VHOST_CUSE

#include <rte_log.h>

extern int log_type_cuse;
#define RTE_LOGTYPE_CUSE log_type_cuse

/**
 * See that the device of a configuration can be made, before anything is started, and set
 * cuse_socket, unless there is to be none. Prints one line to stderr when it cannot. Before EAL.
 *
 * @param[in,out] cfg the configuration
 * @return 0 or a negative errno
 */
int cuse_prepare(struct config *cfg);

/**
 * Make the device, and serve it from now on. Its private socket must be served already.
 *
 * @param cfg the configuration; must outlive the device
 * @return 0, or a negative errno after a log line; call cuse_close() in both cases
 */
int cuse_open(const struct config *cfg);

/** Remove the device. Guests that came by it leave. */
void cuse_close(void);

#else

static inline int
cuse_prepare(struct config *cfg)
{
	(void)cfg;
	return 0;
}

static inline int
cuse_open(const struct config *cfg)
{
	(void)cfg;
	return 0;
}

static inline void
cuse_close(void)
{
}

#endif

#endif /* CUSE_CUSE_H */
