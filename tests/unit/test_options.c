/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "unit.h"

/* Parse a command line written as one string. */
static int
parse(const char *line, struct config *cfg)
{
	static char text[512];
	char *argv[64], *save = NULL;
	int argc = 0;

	snprintf(text, sizeof(text), "-- %s", line);
	for (argv[0] = strtok_r(text, " ", &save); argv[argc] != NULL;
			argv[argc] = strtok_r(NULL, " ", &save))
		argc++;
	return options_parse(argc, argv, cfg);
}

static void
test_defaults(void **state)
{
	struct config cfg;

	(void)state;
	assert_int_equal(parse("-p 0x1", &cfg), 0);
	assert_int_equal(cfg.port_mask, 1);
	assert_int_equal(cfg.mirror_mask, 0);
	assert_false(cfg.promiscuous);
	assert_null(cfg.dev_basename);
	assert_int_equal(cfg.vm2vm, VM2VM_SOFTWARE);
	assert_int_equal(cfg.mergeable, 0);
	assert_int_equal(cfg.stats_period, 0);
	assert_int_equal(cfg.rx_retry, 1);
	assert_int_equal(cfg.rx_retry_num, 4);
	assert_int_equal(cfg.rx_retry_delay, 15);
	assert_int_equal(cfg.vlan_strip, 1);
	assert_int_equal(cfg.tso, 0);
	assert_int_equal(cfg.tx_csum, 0);
	assert_int_equal(cfg.dcb, 0);
	assert_int_equal(cfg.total_num_mbufs, 0);
	assert_int_equal(cfg.socket_uid, UINT32_MAX);
	assert_int_equal(cfg.socket_gid, UINT32_MAX);
	assert_int_equal(cfg.socket_mode, UINT32_MAX);
}

static void
test_every_option(void **state)
{
	struct config cfg;

	(void)state;
	assert_int_equal(parse("-p 8000000000000000 -P --dev-basename usvhost --socket-file a "
			       "--socket-file=b --client --vm2vm 0 --mergeable 1 --stats 86400 "
			       "--rx-retry 0 --rx-retry-num 1000 --rx-retry-delay 10000 "
			       "--vlan-strip 0 --tx-csum 1 --dcb 4 --total-num-mbufs 1024",
			       &cfg), 0);
	assert_int_equal(cfg.port_mask, RTE_BIT64(63));
	assert_true(cfg.promiscuous);
	assert_string_equal(cfg.dev_basename, "usvhost");
	assert_int_equal(cfg.nb_socket_files, 2);
	assert_string_equal(cfg.socket_file[1], "b");
	assert_true(cfg.client);
	assert_int_equal(cfg.vm2vm, 0);
	assert_int_equal(cfg.mergeable, 1);
	assert_int_equal(cfg.stats_period, 86400);
	assert_int_equal(cfg.rx_retry, 0);
	assert_int_equal(cfg.rx_retry_num, 1000);
	assert_int_equal(cfg.rx_retry_delay, 10000);
	assert_int_equal(cfg.vlan_strip, 0);
	assert_int_equal(cfg.tx_csum, 1);
	assert_int_equal(cfg.dcb, 4);
	assert_int_equal(cfg.total_num_mbufs, 1024);
}

static void
test_version_needs_nothing_else(void **state)
{
	struct config cfg;

	(void)state;
	assert_int_equal(parse("--version", &cfg), 0);
	assert_true(cfg.version);
	assert_false(cfg.help);
}

static void
test_socket_owner(void **state)
{
	struct config cfg;

	(void)state;
	assert_int_equal(parse("-p 0 --socket-owner root --socket-mode 0640", &cfg), 0);
	assert_int_equal(cfg.socket_uid, 0);
	assert_int_equal(cfg.socket_gid, UINT32_MAX);
	assert_int_equal(cfg.socket_mode, 0640);
	assert_int_equal(parse("-p 0 --socket-owner 12:root --socket-mode 0", &cfg), 0);
	assert_int_equal(cfg.socket_uid, 12);
	assert_int_equal(cfg.socket_gid, 0);
	assert_int_equal(cfg.socket_mode, 0);
	assert_int_equal(parse("-p 0 --socket-owner root:", &cfg), -EINVAL);
	assert_int_equal(parse("-p 0 --socket-owner :root", &cfg), -EINVAL);
	assert_int_equal(parse("-p 0 --socket-mode 8", &cfg), -EINVAL);
	assert_int_equal(parse("-p 0 --socket-mode 1000", &cfg), -EINVAL);
	assert_int_equal(parse("-p 0 --socket-owner root --client", &cfg), -EINVAL);
}

static void
test_tso_brings_checksums(void **state)
{
	struct config cfg;

	(void)state;
	assert_int_equal(parse("-p 0 --tso 1 --tx-csum 0", &cfg), 0);
	assert_int_equal(cfg.tx_csum, 1);
}

static void
test_too_many_sockets(void **state)
{
	struct config cfg;
	char dashes[] = "--";
	int i;

	(void)state;
	for (i = 0; i < SOCKET_MAX; i++) {
		char *argv[2 * SOCKET_MAX + 3];
		int argc = 0, k;

		argv[argc++] = dashes;
		argv[argc++] = (char *)(uintptr_t)"-p0";
		for (k = 0; k <= i; k++)
			argv[argc++] = (char *)(uintptr_t)"--socket-file=x";
		argv[argc] = NULL;
		assert_int_equal(options_parse(argc, argv, &cfg), i < SOCKET_MAX - 1 ? 0 : -EINVAL);
	}
}

static void
test_named_ports(void **state)
{
	char dashes[] = "--";
	char *argv[PORT_MAX + 4] = { dashes, (char *)(uintptr_t)"-p0" };
	struct config cfg;
	int i;

	(void)state;
	assert_int_equal(parse("-p 0", &cfg), 0);
	assert_int_equal(cfg.nb_ports, 0);
	assert_null(cfg.config_file);
	assert_int_equal(parse("-p 0 --port name=a,socket=x --config c --port=name=b", &cfg), 0);
	assert_int_equal(cfg.nb_ports, 2);
	assert_string_equal(cfg.port[0], "name=a,socket=x");
	assert_string_equal(cfg.port[1], "name=b");
	assert_string_equal(cfg.config_file, "c");
	assert_int_equal(parse("-p 0 --port=", &cfg), -EINVAL);
	for (i = 2; i < PORT_MAX + 3; i++)
		argv[i] = (char *)(uintptr_t)"--port=x";
	assert_int_equal(options_parse(PORT_MAX + 2, argv, &cfg), 0);
	assert_int_equal(cfg.nb_ports, PORT_MAX);
	assert_int_equal(options_parse(PORT_MAX + 3, argv, &cfg), -EINVAL);
}

static void
test_find(void **state)
{
	char a[] = "x", b[] = "-l", c[] = "--";
	char *with[] = { a, b, c, a }, *without[] = { a, b };

	(void)state;
	assert_int_equal(options_find(4, with), 2);
	assert_int_equal(options_find(2, without), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_option),
		cmocka_unit_test(test_version_needs_nothing_else),
		cmocka_unit_test(test_socket_owner),
		cmocka_unit_test(test_tso_brings_checksums),
		cmocka_unit_test(test_too_many_sockets),
		cmocka_unit_test(test_named_ports),
		cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
