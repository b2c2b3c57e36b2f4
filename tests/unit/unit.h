/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <rte_common.h>
#include <rte_bitops.h>
#include <rte_eal.h>

/* main.c defines these for the program. */
int log_type_config, log_type_data, log_type_uplink;

/** Group set-up of tests that need EAL: no hugepages, no devices, no files. */
static inline int
start_eal(void **state)
{
	char *argv[] = { (char *)(uintptr_t)"unit", (char *)(uintptr_t)"--no-huge",
		(char *)(uintptr_t)"-m", (char *)(uintptr_t)"64", (char *)(uintptr_t)"--no-pci",
		(char *)(uintptr_t)"--no-shconf", (char *)(uintptr_t)"--no-telemetry",
		(char *)(uintptr_t)"--log-level=error", NULL };

	(void)state;
	return rte_eal_init(RTE_DIM(argv) - 1, argv) < 0;
}

#endif /* TESTS_UNIT_UNIT_H */
