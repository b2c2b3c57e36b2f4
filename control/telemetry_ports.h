/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTROL_TELEMETRY_PORTS_H
#define CONTROL_TELEMETRY_PORTS_H

/**
 * @file
 * The telemetry commands about named ports and addresses. Called by a thread of rte_telemetry, one
 * at a time: on_command() holds a lock.
 */

#include <stdint.h>

#include "control/answer.h"
#include "control/stats.h"

/** Bytes of a MAC as text. */
#define TELEMETRY_MAC_LEN 18

/** Write the MAC of a key as text. */
void telemetry_mac(uint64_t key, char *text);

/** Answer /vhost_switch/ports: settings and state of each. 0 or -EINVAL. */
int telemetry_ports(const struct stats_source *src, const char *params, struct dict *d);

/**
 * Answer /vhost_switch/fdb: the MAC of each guest without a port, by its device id; and from number
 * GUEST_MAX on the addresses of domains, each with port and age. 0 or -EINVAL.
 */
int telemetry_fdb(const struct stats_source *src, const char *params, struct dict *d);

#endif /* CONTROL_TELEMETRY_PORTS_H */
