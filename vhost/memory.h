/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_MEMORY_H
#define VHOST_MEMORY_H

/**
 * @file
 * Guests whose memory goes away.
 *
 * The memory of a guest is a file that its front end has open as well. When that truncates the
 * file, or its file system has no room for one more page, whoever touches what is missing gets
 * SIGBUS, which would end the switch and all other guests with it. Instead the handler puts empty
 * memory in the place of the guest's, disables the guest's device, and lets the thread go on. Any
 * other SIGBUS ends the program, as without it.
 *
 * The handler runs in whichever thread touched the memory: a worker, or librte_vhost's thread. It
 * knows the files that front ends gave, by device and inode, which are noted before librte_vhost
 * gets a message. What is mapped, and where, it asks the kernel at that moment: no table of
 * addresses can be out of date, and nothing but the mapping that was touched is ever replaced.
 * While a thread is at a guest's memory nobody unmaps it (vhost/vring.h), so the mapping stays the
 * same meanwhile.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "vhost/vhost_user.h"

/** A file that is or may be mapped; inode 0: none. */
struct memory_file {
	dev_t device;
	ino_t inode;
};

/** Files of a connection. A handler may read them at any time: each member is atomic. */
struct memory_files {
	struct memory_file table[VHOST_USER_REGIONS_MAX];  /**< of the memory table in use */
	struct memory_file coming[VHOST_USER_REGIONS_MAX]; /**< of one that is under way */
	struct memory_file log[2];			   /**< the dirty log, and the one before */
};

/**
 * Install the handler. Main thread, when EAL runs.
 *
 * @return 0 or a negative errno
 */
int memory_init(void);

/**
 * Note the files of a memory table before librte_vhost gets it. The relay's thread.
 *
 * @param files of the connection
 * @param fds descriptors of the files
 * @param n how many
 */
void memory_expect_table(struct memory_files *files, const int *fds, int n);

/**
 * Note the file of a dirty log before librte_vhost gets it. The relay's thread.
 *
 * @param files of the connection
 * @param fd descriptor of the file
 */
void memory_expect_log(struct memory_files *files, int fd);

/**
 * librte_vhost has carried out a SET_MEM_TABLE: forget files that it has not mapped. Its thread.
 *
 * @param files of the connection
 * @param vid librte_vhost's handle
 */
void memory_settle(struct memory_files *files, int vid);

/**
 * Say who is to know when a guest's memory is gone. Main thread, before there are connections.
 *
 * @param wake_fd eventfd that the handler writes to then
 */
void memory_wake(int wake_fd);

/**
 * Forget the files of a connection, when nothing of it is mapped any more. The relay's thread.
 *
 * @param files of the connection
 */
void memory_forget(struct memory_files *files);

#endif /* VHOST_MEMORY_H */
