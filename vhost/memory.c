/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_vhost.h>

#include "log/log.h"
#include "vhost/connection.h"
#include "vhost/memory.h"

/* A line of /proc/self/maps: START-END PERMS OFFSET MAJOR:MINOR INODE PATH (proc(5)). */
enum { START, END, PERMS, OFFSET, MAJOR, MINOR, INODE, FIELDS };

struct maps_line {
	uint64_t field[FIELDS];
	unsigned int at; /* the field that the next character belongs to; FIELDS: none any more */
};

/* For a handler when there is no descriptor left to open it by. */
static int maps_fd = -1;

/* Whom it tells; a handler has no other way to know. */
static int control_fd = -1;

/* What follows is called by the handler: only what is safe there (signal-safety(7)). */

/* Take one character. Returns whether the line is complete. */
static bool
add_character(struct maps_line *line, char c)
{
	static const char ends[FIELDS] = { '-', ' ', ' ', ' ', ':', ' ', ' ' };
	uint64_t *field;

	if (c == '\n')
		return true;
	if (line->at >= FIELDS)
		return false;
	field = &line->field[line->at];
	if (c == ends[line->at])
		line->at++;
	else if (line->at == INODE)
		*field = *field * 10 + (uint64_t)(c - '0');
	else if (line->at != PERMS)
		*field = *field * 16 + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	return false;
}

/* Read on, by a descriptor of our own, or from a place in the one that all share. */
static ssize_t
read_maps(int fd, char *buf, size_t len, off_t *at)
{
	ssize_t n = fd >= 0 ? read(fd, buf, len) : pread(maps_fd, buf, len, *at);

	if (n > 0)
		*at += n;
	return n;
}

/* The mapping that an address lies in. */
static bool
find_mapping(uint64_t address, struct maps_line *found)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct maps_line line = { .at = START };
	char buf[1024];
	bool hit = false;
	off_t at = 0;
	ssize_t n, i;

	while (!hit && (n = read_maps(fd, buf, sizeof(buf), &at)) > 0) {
		for (i = 0; i < n && !hit; i++) {
			if (!add_character(&line, buf[i]))
				continue;
			hit = address >= line.field[START] && address < line.field[END];
			*found = line;
			line = (struct maps_line){ .at = START };
		}
	}
	if (fd >= 0)
		close(fd);
	return hit;
}

static bool
is_file(const struct memory_file *f, const struct maps_line *m)
{
	ino_t inode = __atomic_load_n(&f->inode, __ATOMIC_ACQUIRE);
	dev_t device = __atomic_load_n(&f->device, __ATOMIC_RELAXED);

	return inode != 0 && inode == m->field[INODE] && major(device) == m->field[MAJOR] &&
		minor(device) == m->field[MINOR];
}

static bool
has_file(const struct memory_files *files, const struct maps_line *m)
{
	unsigned int i;

	for (i = 0; i < VHOST_USER_REGIONS_MAX; i++) {
		if (is_file(&files->table[i], m) || is_file(&files->coming[i], m))
			return true;
	}
	return is_file(&files->log[0], m) || is_file(&files->log[1], m);
}

static void
disable(struct device *d)
{
	uint64_t one = 1;
	ssize_t ignored;

	__atomic_store_n(&d->memory_gone, true, __ATOMIC_RELEASE);
	__atomic_store_n(&d->disabled, true, __ATOMIC_RELEASE);
	ignored = write(control_fd, &one, sizeof(one));
	RTE_SET_USED(ignored);
}

/*
 * Put empty memory in the place of a front end's, and disable all devices that the file belongs to:
 * a VM with two devices has the same memory for both. Returns false when it is nobody's.
 */
static bool
replace_memory(uint64_t address)
{
	struct maps_line m;
	bool known = false;
	unsigned int i;

	if (!find_mapping(address, &m))
		return false;
	if (m.field[INODE] == 0) /* another thread has done so meanwhile */
		return true;
	for (i = 0; i < CONNECTION_PLACES && !known; i++)
		known = has_file(&connection_at(i)->files, &m);
	if (!known || mmap((void *)(uintptr_t)m.field[START], m.field[END] - m.field[START],
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			MAP_FIXED, -1, 0) == MAP_FAILED)
		return false;
	for (i = 0; i < CONNECTION_PLACES; i++) {
		if (has_file(&connection_at(i)->files, &m))
			disable(&connection_at(i)->device);
	}
	return true;
}

static void
on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	RTE_SET_USED(context);
	if (info->si_code != BUS_ADRERR || !replace_memory((uintptr_t)info->si_addr)) {
		log_drain();
		signal(sig, SIG_DFL);
		raise(sig);
	}
	errno = saved;
}

/* Until here. */

int
memory_init(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	maps_fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (maps_fd < 0)
		return -errno;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

/* A handler that runs meanwhile finds no file, or this one. */
static void
set_numbers(struct memory_file *f, dev_t device, ino_t inode)
{
	__atomic_store_n(&f->inode, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&f->device, device, __ATOMIC_RELEASE);
	__atomic_store_n(&f->inode, inode, __ATOMIC_RELEASE);
}

static void
set_file(struct memory_file *f, int fd)
{
	struct stat st = { 0 };

	if (fd >= 0 && fstat(fd, &st) < 0)
		st.st_ino = 0;
	set_numbers(f, st.st_dev, st.st_ino);
}

void
memory_expect_table(struct memory_files *files, const int *fds, int n)
{
	int i;

	for (i = 0; i < VHOST_USER_REGIONS_MAX; i++)
		set_file(&files->coming[i], i < n ? fds[i] : -1);
}

void
memory_expect_log(struct memory_files *files, int fd)
{
	set_numbers(&files->log[1], files->log[0].device, files->log[0].inode);
	set_file(&files->log[0], fd);
}

/* A table that differs in its files alone librte_vhost takes for the one that it has. */
void
memory_settle(struct memory_files *files, int vid)
{
	struct rte_vhost_memory *memory = NULL;
	uint32_t i;

	if (rte_vhost_get_mem_table(vid, &memory) < 0)
		return;
	for (i = 0; i < VHOST_USER_REGIONS_MAX; i++)
		set_file(&files->table[i], i < memory->nregions ? memory->regions[i].fd : -1);
	memory_expect_table(files, NULL, 0);
	free(memory);
}

void
memory_wake(int wake_fd)
{
	control_fd = wake_fd;
}

void
memory_forget(struct memory_files *files)
{
	unsigned int i;

	for (i = 0; i < VHOST_USER_REGIONS_MAX; i++)
		set_file(&files->table[i], -1);
	memory_expect_table(files, NULL, 0);
	set_file(&files->log[0], -1);
	set_file(&files->log[1], -1);
}
