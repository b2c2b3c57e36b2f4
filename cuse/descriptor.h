/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_DESCRIPTOR_H
#define CUSE_DESCRIPTOR_H

/**
 * @file
 * Taking over open files of another process: the eventfds and the tap that an ioctl names by the
 * numbers they have in the caller.
 *
 * By pidfd_getfd(2), or with the kernel module in eventfd_link/ where that is not allowed. Both
 * make a second descriptor of the same open file, which the one who asked for it owns and closes.
 *
 * The device's thread only, but for descriptor_use_module().
 */

#include <stdbool.h>
#include <sys/types.h>

/**
 * The process that a thread belongs to. FUSE names callers by their thread ids.
 *
 * @param thread a thread id
 * @return process id, or a negative errno: -ESRCH when there is no such thread
 */
pid_t descriptor_process(pid_t thread);

/**
 * Take descriptors with the kernel module from now on. Main thread, before the others start.
 *
 * @return 0, or a negative errno when there is no module
 */
int descriptor_use_module(void);

/**
 * Take one over.
 *
 * @param process process id
 * @param fd its number there
 * @return own descriptor, close-on-exec, or a negative errno: -EBADF when fd is not open there
 */
int descriptor_take(pid_t process, int fd);

/** @return whether an own descriptor is an eventfd */
bool descriptor_is_eventfd(int fd);

/** Give up what descriptor_use_module() opened. */
void descriptor_release_module(void);

#endif /* CUSE_DESCRIPTOR_H */
