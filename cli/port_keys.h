/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CLI_PORT_KEYS_H
#define CLI_PORT_KEYS_H

/**
 * @file
 * The table of keys: what cli/ itself needs of it. Any thread but workers.
 */

#include <stdio.h>

#include "cli/ports.h"

/** Where settings are being read, and what was there so far. */
struct key_place {
	const char *where;     /**< for error lines: file and section, or --port and its name */
	void *settings;	       /**< struct port_settings, or struct ports_config for [switch] */
	bool is_switch;	       /**< the section [switch] */
	bool is_section;       /**< the name is the section's */
	uint32_t given;	       /**< RTE_BIT32() of each enum port_key that was there */
	struct error_line *error;
};

/**
 * Give all keys of a place their defaults.
 *
 * @param place the place; its settings are overwritten
 */
void port_keys_preset(struct key_place *place);

/**
 * Set one key.
 *
 * @param place the place
 * @param key its name, as it was given
 * @param value its value, as it was given
 * @return 0, or -EINVAL with an error line: unknown, given twice, or a value that is not accepted
 */
int port_keys_set(struct key_place *place, const char *key, const char *value);

/**
 * See that each key without a default was given.
 *
 * @param place the place
 * @return 0, or -EINVAL with an error line
 */
int port_keys_complete(const struct key_place *place);

/**
 * Which keys differ.
 *
 * @param a settings of a port, or of the switch
 * @param b the same
 * @param is_switch they are of the switch
 * @return RTE_BIT32() of each enum port_key that has another value
 */
uint32_t port_keys_compare(const void *a, const void *b, bool is_switch);

/** RTE_BIT32() of each enum port_key that only a new port can change. */
uint32_t port_keys_fixed(void);

/**
 * Print all keys.
 *
 * @param out stream to print to
 */
void port_keys_usage(FILE *out);

#endif /* CLI_PORT_KEYS_H */
