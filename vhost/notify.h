/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_NOTIFY_H
#define VHOST_NOTIFY_H

/**
 * @file
 * Notifying a driver through its call descriptor, without ever waiting for the peer.
 *
 * The call descriptor is an eventfd that the front end has made and still holds. Its status flags
 * belong to the open file, so they are shared with the front end: O_NONBLOCK, set here, can be
 * cleared there, and a write(2) to a counter that the front end has filled would then block for
 * as long as the front end likes. A private duplicate shares the flags, and an eventfd cannot be
 * opened a second time.
 *
 * So no eventfd of a peer is written to. The kernel signals it itself when an operation of Linux'
 * asynchronous I/O completes (io_submit(2), IOCB_FLAG_RESFD): that adds to the counter up to its
 * maximum and never waits, and it is refused for a descriptor that is not an eventfd. The
 * operation is a read of no bytes from /dev/null, which completes within the system call. It costs
 * 0.7 us against 0.24 us of a write(2) (bench/notify.c), and nothing where drivers poll.
 *
 * Where the kernel offers no such context (seccomp, fs.aio-max-nr), a write is interrupted by
 * a timer signal when it blocks.
 *
 * For the same reason librte_vhost gets no call descriptors: see device_set_call().
 */

#include <stdbool.h>
#include <stdint.h>

/**
 * Notify a driver. Called by any thread; each has a context of its own from the first call on.
 *
 * @param callfd the call descriptor of a virtqueue
 * @return false when the descriptor cannot be signalled: it is not an eventfd, or it blocks; it
 *   is not to be used again
 */
bool notify_send(int callfd);

/** Release the calling thread's context. Called by a thread that ends. */
void notify_end(void);

#endif /* VHOST_NOTIFY_H */
