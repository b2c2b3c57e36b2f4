/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_vhost.h>

#include "guest/fault.h"
#include "guest/vhost_user.h"
#include "log/log.h"

struct mapping {
	uint8_t *at;
	uint64_t len;
};

/* By vid. A handler that runs meanwhile sees an odd version while control writes the mappings. */
static struct watch {
	unsigned int version; /* atomic */
	unsigned int n;
	struct mapping mapping[VHOST_USER_REGIONS_MAX];
	bool *off;   /* atomic */
	int wake_fd; /* written before off */
	bool gone;   /* atomic */
} watches[RTE_MAX_VHOST_DEVICE];

/* The mapping of a watch that an address lies in. */
static bool
find_mapping(const struct watch *w, const uint8_t *address, struct mapping *found)
{
	unsigned int before = __atomic_load_n(&w->version, __ATOMIC_ACQUIRE), i;
	bool hit = false;

	for (i = 0; i < RTE_MIN(w->n, (unsigned int)VHOST_USER_REGIONS_MAX) && !hit; i++) {
		*found = w->mapping[i];
		hit = (uintptr_t)address - (uintptr_t)found->at < found->len;
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return hit && before % 2 == 0 && __atomic_load_n(&w->version, __ATOMIC_RELAXED) == before;
}

static void
switch_off(struct watch *w)
{
	bool *off = __atomic_load_n(&w->off, __ATOMIC_ACQUIRE);
	uint64_t one = 1;
	ssize_t ignored;

	__atomic_store_n(&w->gone, true, __ATOMIC_RELEASE);
	if (off == NULL)
		return;
	__atomic_store_n(off, true, __ATOMIC_RELEASE);
	ignored = write(w->wake_fd, &one, sizeof(one));
	RTE_SET_USED(ignored);
}

/* Calls nothing that is not safe in a handler (signal-safety(7)), but for mmap(), a system call. */
static void
on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved = errno;
	struct mapping m;
	unsigned int i;

	RTE_SET_USED(context);
	for (i = 0; i < RTE_DIM(watches) && info->si_code == BUS_ADRERR; i++) {
		if (!find_mapping(&watches[i], info->si_addr, &m))
			continue;
		if (mmap(m.at, m.len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
				MAP_FAILED)
			break;
		switch_off(&watches[i]);
		errno = saved;
		return;
	}
	log_drain();
	signal(sig, SIG_DFL);
	raise(sig);
}

int
fault_init(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

static void
set_mappings(struct watch *w, const struct rte_vhost_memory *memory)
{
	unsigned int i, n = memory != NULL ? memory->nregions : 0;

	__atomic_store_n(&w->version, w->version + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	w->n = RTE_MIN(n, (unsigned int)VHOST_USER_REGIONS_MAX);
	for (i = 0; i < w->n; i++)
		w->mapping[i] = (struct mapping){ memory->regions[i].mmap_addr,
			memory->regions[i].mmap_size };
	__atomic_store_n(&w->version, w->version + 1, __ATOMIC_RELEASE);
}

void
fault_watch(int vid)
{
	struct rte_vhost_memory *memory = NULL;

	if (rte_vhost_get_mem_table(vid, &memory) < 0)
		memory = NULL;
	set_mappings(&watches[vid], memory);
	free(memory);
}

void
fault_report(int vid, bool *off, int wake_fd)
{
	struct watch *w = &watches[vid];

	w->wake_fd = wake_fd;
	__atomic_store_n(&w->off, off, __ATOMIC_RELEASE);
	/* It may have gone before there was a guest. */
	if (off != NULL && fault_happened(vid))
		switch_off(w);
}

void
fault_forget(int vid)
{
	set_mappings(&watches[vid], NULL);
	__atomic_store_n(&watches[vid].off, NULL, __ATOMIC_RELEASE);
	__atomic_store_n(&watches[vid].gone, false, __ATOMIC_RELEASE);
}

bool
fault_happened(int vid)
{
	return __atomic_load_n(&watches[vid].gone, __ATOMIC_ACQUIRE);
}
