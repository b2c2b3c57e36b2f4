/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_UNIT_PORTS_H
#define TESTS_UNIT_PORTS_H

/* Lists of named ports for tests, in a directory of their own. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ports.h"
#include "unit.h"

#define FILE_NAME "ports.conf"
#define WEB "[port web]\nsocket=w\n"

static struct error_line error;

static inline void
write_bytes(const char *text, size_t len)
{
	FILE *f = fopen(FILE_NAME, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Ports of two --port and a file, each NULL: not given. */
static inline struct ports_config *
load(const char *first, const char *second, const char *file)
{
	struct config cfg = { .nb_ports = 0 };

	if (first != NULL)
		cfg.port[cfg.nb_ports++] = first;
	if (second != NULL)
		cfg.port[cfg.nb_ports++] = second;
	if (file != NULL) {
		write_bytes(file, strlen(file));
		cfg.config_file = FILE_NAME;
	}
	error.text[0] = '\0';
	return ports_load(&cfg, &error);
}

static inline struct ports_config *
load_good(const char *first, const char *second, const char *file)
{
	struct ports_config *ports = load(first, second, file);

	assert_string_equal(error.text, "");
	assert_non_null(ports);
	return ports;
}

static inline int
enter_directory(void **state)
{
	static char dir[] = "/tmp/test_ports-XXXXXX";

	*state = mkdtemp(dir);
	return *state == NULL || chdir(dir) < 0;
}

static inline int
leave_directory(void **state)
{
	unlink(FILE_NAME);
	return chdir("/") < 0 || rmdir(*state) < 0;
}

#endif /* TESTS_UNIT_PORTS_H */
