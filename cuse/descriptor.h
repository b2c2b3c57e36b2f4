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

#include <net/if.h>
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

/** What a descriptor is, as far as this program has a use for it. Bits, to name several. */
enum descriptor_type {
	DESCRIPTOR_OTHER = 0,
	DESCRIPTOR_EVENTFD = 1,
	DESCRIPTOR_SOCKET = 2,
	DESCRIPTOR_TAP = 4, /**< of tun, macvtap or ipvtap */
};

/**
 * Take a descriptor over, if it is of one of some types. One of another type is not copied: its
 * ioctls and its close() may block. A caller that exchanges it meanwhile gains nothing.
 *
 * @param process process id
 * @param fd its number there
 * @param types of enum descriptor_type, or'ed
 * @param[out] type of what was taken
 * @return own descriptor, close-on-exec, or a negative errno: -EBADF when fd is not open there,
 *   -EINVAL when it is of another type
 */
int descriptor_take(pid_t process, int fd, unsigned int types, enum descriptor_type *type);

/** The same for an eventfd. */
int descriptor_take_eventfd(pid_t process, int fd);

/**
 * See that a descriptor is a backend as VHOST_NET_SET_BACKEND has it: a tap that is attached to an
 * interface, or a raw packet socket. It is copied for the time of the call.
 *
 * @param process process id
 * @param fd its number there
 * @param[out] name the interface of a tap
 * @return 0 or a negative errno, the kernel's: -ENOTSOCK for anything else, -EINVAL for a tap
 *   without an interface
 */
int descriptor_check_backend(pid_t process, int fd, char name[IFNAMSIZ]);

/** Give up what descriptor_use_module() opened. */
void descriptor_release_module(void);

#endif /* CUSE_DESCRIPTOR_H */
