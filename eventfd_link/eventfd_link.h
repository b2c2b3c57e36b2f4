/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause */
#ifndef EVENTFD_LINK_H
#define EVENTFD_LINK_H

/*
 * /dev/eventfd-link: copies an open file of another process. For the kernel module and for those
 * who call it.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

/* Which file, and how it is to be opened here. */
struct eventfd_copy2 {
	unsigned int fd;     /* its number in the other process */
	__kernel_pid_t pid;  /* that process, in the caller's pid namespace */
	unsigned int flags;  /* of the new descriptor: 0 or O_CLOEXEC */
};

/* Returns the new descriptor. */
#define EVENTFD_COPY2 _IOW('D', 2, struct eventfd_copy2)

#endif /* EVENTFD_LINK_H */
