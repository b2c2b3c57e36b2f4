/* SPDX-License-Identifier: BSD-3-Clause */
/* dump_registers EAL-ARGS: have the driver of the last port read every register it knows of. */
#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_ethdev.h>

int
main(int argc, char **argv)
{
	struct rte_dev_reg_info info = { 0 };
	uint16_t port;

	if (rte_eal_init(argc, argv) < 0 || rte_eth_dev_count_avail() == 0)
		return EXIT_FAILURE;
	port = (uint16_t)(rte_eth_dev_count_avail() - 1);
	if (rte_eth_dev_get_reg_info(port, &info) < 0)
		return EXIT_FAILURE;
	printf("%u registers of port %u\n", info.length, port);
	fflush(stdout);
	info.data = calloc(info.length, info.width);
	if (info.data == NULL || rte_eth_dev_get_reg_info(port, &info) < 0)
		return EXIT_FAILURE;
	free(info.data);
	return EXIT_SUCCESS;
}
