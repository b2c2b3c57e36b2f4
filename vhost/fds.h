/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_FDS_H
#define VHOST_FDS_H

/**
 * @file
 * Descriptors that a front end sends.
 *
 * A descriptor can be of any type, and the other end keeps a copy: even fstat() and close() can
 * block for as long as the other end wishes (a file of FUSE, a TCP socket that lingers, a
 * connection whose queue holds such a descriptor). So a descriptor is received in a way that leaves
 * no last reference to it in the kernel's hands, its type is found out by calls that no file system
 * takes part in, and unless the type is known it is closed by a thread that does nothing else.
 *
 * All functions but fds_kind() are called by the relay's thread only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "vhost/vhost_user.h"

/** Most descriptors of a message: one for each region of a memory table. */
#define FDS_MAX VHOST_USER_REGIONS_MAX

/** What a descriptor is. */
enum fds_kind {
	FDS_EVENTFD, /**< an eventfd */
	FDS_MEMORY,  /**< a regular file on a local file system */
	FDS_OTHER,   /**< anything else: must not be touched */
};

/** Descriptors that are to be closed where it may take time. */
struct fds_batch {
	STAILQ_ENTRY(fds_batch) link;
	bool closing; /**< handed to fds_close_elsewhere(), and not known to be done; its owner's */
	int fd[FDS_MAX + 1]; /**< one in excess, by which too many are recognised */
	int n;
	int done; /**< atomic; set after the last one was closed */
};

/**
 * Find out what a descriptor is. Never blocks. Any thread.
 *
 * @param fd the descriptor
 * @return its kind
 */
enum fds_kind fds_kind(int fd);

/**
 * Receive bytes and the descriptors that came with them. When there are more than FDS_MAX they stay
 * in the connection's queue, with the bytes.
 *
 * @param sock a stream socket with SO_OOBINLINE set
 * @param[out] buf where bytes go
 * @param len bytes wanted; fewer may come
 * @param[out] batch the descriptors, n is set: further references to those in the queue
 * @param[out] belong whether they came with these bytes; else they belong to later ones
 * @return bytes received, 0 at the end of the connection, -EAGAIN when there are none, -EMSGSIZE
 *   when more descriptors came than any message has, -EMFILE when there are no numbers left for
 *   them, or another negative errno
 */
ssize_t fds_receive(int sock, void *buf, size_t len, struct fds_batch *batch, bool *belong);

/**
 * Send bytes, with descriptors. Any thread.
 *
 * @param sock a stream socket
 * @param buf the bytes
 * @param len how many
 * @param fd descriptors to go with them
 * @param n how many, at most FDS_MAX
 * @param flags of sendmsg(2)
 * @return 0, or a negative errno; -EIO when not all of it was sent
 */
int fds_send(int sock, const void *buf, size_t len, const int *fd, int n, int flags);

/**
 * Whether closing a connection may block, because something unread is in its queue.
 *
 * @param sock a stream socket that was shut down
 */
bool fds_has_unread(int sock);

/**
 * Start closing descriptors in another thread.
 *
 * @param batch the descriptors; must stay until done is set
 * @param wake_fd eventfd that is written to after done was set
 */
void fds_close_elsewhere(struct fds_batch *batch, int wake_fd);

#endif /* VHOST_FDS_H */
