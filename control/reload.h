/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTROL_RELOAD_H
#define CONTROL_RELOAD_H

/**
 * @file
 * The named ports: brought up at start, and changed while the switch runs.
 *
 * Main thread at start, before workers run; the control loop from then on.
 */

#include "cli/ports.h"

struct guests;

/**
 * Bring the ports of the first list up, and their sockets.
 *
 * @param guests the table
 * @param ports the list, which belongs to the table from now on
 * @return 0, or a negative errno after a log line
 */
int reload_first(struct guests *guests, struct ports_config *ports);

/**
 * Read the settings again, and use them if nothing is wrong with them. Logs one line for what has
 * changed, or for what is wrong.
 *
 * @param cfg the configuration
 * @param guests the table
 */
void reload_again(const struct config *cfg, struct guests *guests);

/**
 * Forget addresses that were not seen for long, and let in guests that wait for a place. Each
 * second or so.
 *
 * @param guests the table
 */
void reload_age_addresses(struct guests *guests);

#endif /* CONTROL_RELOAD_H */
