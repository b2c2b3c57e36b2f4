/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>

#include "cuse/memory.h"

/* A line of /proc/PID/maps, see proc_pid_maps(5). */
struct mapping {
	uint64_t start, end, offset, inode;
	unsigned int major, minor;
	char perms[5];
};

static bool
parse_mapping(const char *line, struct mapping *m)
{
	return sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &m->start,
		&m->end, m->perms, &m->offset, &m->major, &m->minor, &m->inode) == 7;
}

static bool
is_shared_file(const struct mapping *m)
{
	return m->perms[0] == 'r' && m->perms[1] == 'w' && m->perms[3] == 's' && m->inode != 0;
}

/*
 * Open the file of a mapping. The link under map_files leads to it whatever became of its path and
 * of the descriptor it was mapped with: memfds and unlinked files of hugetlbfs have neither.
 */
static int
open_mapping(pid_t process, const struct mapping *m)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, process, m->start,
		m->end);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A mapping may be longer than its file, and touching it there is a SIGBUS. */
static bool
file_is_long_enough(const struct memory_region *p)
{
	struct stat st;

	return fstat(p->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= 0 &&
		p->offset + p->size <= (uint64_t)st.st_size;
}

struct search {
	pid_t process;
	struct memory_region *regions;
	int n;
	struct mapping last; /* that the last region came from */
	const char *why;
};

/* Enter what region and mapping have in common. 0 or a negative errno. */
static int
add_piece(struct search *s, const struct vhost_memory_region *r, const struct mapping *m)
{
	uint64_t start = RTE_MAX((uint64_t)r->userspace_addr, m->start);
	uint64_t end = RTE_MIN((uint64_t)(r->userspace_addr + r->memory_size), m->end);
	struct memory_region *p = s->n > 0 ? &s->regions[s->n - 1] : NULL;
	struct memory_region region = {
		.guest_address = r->guest_phys_addr + (start - r->userspace_addr),
		.size = end - start,
		.caller_address = start,
		.offset = m->offset + (start - m->start),
	};

	/* The same file goes on: with hugepages EAL maps each page on its own. */
	if (p != NULL && m->inode == s->last.inode && m->major == s->last.major &&
			m->minor == s->last.minor &&
			p->guest_address + p->size == region.guest_address &&
			p->caller_address + p->size == start &&
					p->offset + p->size == region.offset) {
		p->size += region.size;
		return 0;
	}
	if (s->n == MEMORY_REGIONS_MAX) {
		s->why = "guest memory is in more than 8 files or regions "
			"(DPDK guests: --single-file-segments)";
		return -E2BIG;
	}
	region.fd = open_mapping(s->process, m);
	if (region.fd < 0) {
		s->why = region.fd == -EPERM ?
			"a file of guest memory cannot be opened without CAP_CHECKPOINT_RESTORE" :
			"a file of guest memory cannot be opened";
		return region.fd;
	}
	s->regions[s->n++] = region;
	s->last = *m;
	return 0;
}

static int
search_region(struct search *s, const struct vhost_memory_region *r)
{
	char path[32], line[512];
	struct mapping m;
	bool whole = true; /* at the beginning of a line, which may be longer than the buffer */
	int ret = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", s->process);
	f = fopen(path, "re");
	if (f == NULL) {
		s->why = "the maps of the calling process cannot be read";
		return -errno;
	}
	while (ret == 0 && fgets(line, sizeof(line), f) != NULL) {
		bool begins = whole;

		whole = false;
		for (const char *c = line; *c != '\0'; c++)
			whole = *c == '\n';
		if (!begins || !parse_mapping(line, &m))
			continue;
		if (m.end <= r->userspace_addr || m.start >= r->userspace_addr + r->memory_size)
			continue;
		if (is_shared_file(&m))
			ret = add_piece(s, r, &m);
	}
	fclose(f);
	return ret;
}

int
memory_take(pid_t process, const struct vhost_memory *table, struct memory_region *regions,
	const char **why)
{
	struct search s = { .process = process, .regions = regions };
	const struct vhost_memory_region *r;
	uint32_t i;
	int ret = 0, k;

	for (i = 0; i < table->nregions && ret == 0; i++) {
		r = &table->regions[i];
		if (r->memory_size == 0 || r->userspace_addr + r->memory_size < r->memory_size ||
				r->guest_phys_addr + r->memory_size < r->memory_size) {
			s.why = "a region of guest memory is empty or wraps around";
			ret = -EFAULT;
			break;
		}
		ret = search_region(&s, r);
	}
	for (k = 0; k < s.n && ret == 0; k++) {
		if (!file_is_long_enough(&regions[k])) {
			s.why = "a file of guest memory is shorter than its mapping";
			ret = -EFAULT;
		}
	}
	if (ret == 0 && s.n == 0 && table->nregions > 0) {
		s.why = "guest memory is not shared: it must be in hugetlbfs or a memfd, "
			"with share=on";
		ret = -EFAULT;
	}
	if (ret == 0)
		return s.n;
	memory_release(regions, s.n);
	*why = s.why;
	return ret;
}

void
memory_release(struct memory_region *regions, int n)
{
	while (n-- > 0)
		close(regions[n].fd);
}
