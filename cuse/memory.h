/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CUSE_MEMORY_H
#define CUSE_MEMORY_H

/**
 * @file
 * Taking over the memory of a guest.
 *
 * VHOST_SET_MEM_TABLE names guest memory by addresses of the calling process, where the kernel can
 * simply reach it. Another process needs the file: what is mapped there of hugetlbfs or a memfd
 * and shared, can be mapped here as well. Private memory cannot.
 *
 * The device's thread only. Whoever calls memory_take() owns the descriptors that come.
 */

#include <stdint.h>
#include <sys/types.h>

#include <linux/vhost.h>

#include "vhost/vhost_user.h"

/** Each becomes a region of a message. */
#define MEMORY_REGIONS_MAX VHOST_USER_REGIONS_MAX

/** A region of guest memory that lies in one file. */
struct memory_region {
	uint64_t guest_address;	 /**< in the guest's physical memory */
	uint64_t size;		 /**< bytes */
	uint64_t caller_address; /**< in the calling process */
	uint64_t offset;	 /**< in the file */
	int fd;
};

/**
 * Find the files of a table of regions and open them.
 *
 * @param process the calling process
 * @param table its VHOST_SET_MEM_TABLE
 * @param[out] regions at least MEMORY_REGIONS_MAX
 * @param[out] why on error, a text for the log
 * @return number of regions, 0 for a table without regions, or a negative errno: -EFAULT when the
 *   memory is private or not there, or the table makes no sense, -E2BIG when it is in too many
 *   regions
 */
int memory_take(pid_t process, const struct vhost_memory *table, struct memory_region *regions,
	const char **why);

/** Close the descriptors of n regions. */
void memory_release(struct memory_region *regions, int n);

#endif /* CUSE_MEMORY_H */
