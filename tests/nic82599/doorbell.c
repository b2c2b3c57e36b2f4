/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * To be preloaded: says what DPDK is told when it asks the CPU for MOVDIRI, so that drivers write
 * doorbells the one way or the other on any CPU. DOORBELL=movdiri or mov in the environment. The
 * model carries MOVDIRI out where the CPU does not have it.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cpuflags.h>

int
rte_cpu_get_flag_enabled(enum rte_cpu_flag_t flag)
{
	const char *doorbell = getenv("DOORBELL");
	int (*next)(enum rte_cpu_flag_t);

	if (flag == RTE_CPUFLAG_MOVDIRI && doorbell != NULL)
		return strcmp(doorbell, "movdiri") == 0;
	*(void **)&next = dlsym(RTLD_NEXT, "rte_cpu_get_flag_enabled");
	return next(flag);
}
