/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTROL_STATS_H
#define CONTROL_STATS_H

/**
 * @file
 * What was counted, summed over the workers and shown: the table and the screen of --stats, and the
 * telemetry commands.
 *
 * Nothing of this is on the way of a frame. Guests are looked at under the guest table's mutex,
 * counters are read while workers write them.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_config.h>

#include "main.h"
#include "stats/counters.h"

struct guest;
struct guests;
struct mirror;
struct uplink;
struct worker;

/** What there is to show. */
struct stats_source {
	struct guests *guests;
	const struct uplink *uplink;
	const struct mirror *mirror;
	const struct config *cfg;
	struct worker *const *workers;
	unsigned int nb_workers;
};

/** What was counted when the last screen was drawn, for rates; all 0: there was none. */
struct stats_last {
	uint64_t when; /**< TSC */
	uint64_t serial[ID_MAX];
	struct guest_totals guest[ID_MAX];
	uint64_t cycles[RTE_MAX_LCORE], busy[RTE_MAX_LCORE];
	struct uplink_counters uplink;
};

/**
 * What a guest is, in a word. Any thread, under the guest table's mutex.
 *
 * @param g the guest
 * @return the word
 */
const char *stats_guest_state(const struct guest *g);

/**
 * Why no frames go from and to a guest. Any thread, under the guest table's mutex.
 *
 * @param g the guest
 * @return the first reason there is, "" if frames go
 */
const char *stats_no_traffic_reason(const struct guest *g);

/**
 * Print the table of --stats to stdout, or stats_screen() where that is a terminal. Called by the
 * control loop, which does not wait for a reader.
 *
 * @param src what to show
 * @param[in,out] last of the screen before
 */
void stats_print(const struct stats_source *src, struct stats_last *last);

/**
 * Draw the screen of --stats over the one before: rates beside totals, reasons of drops, what the
 * workers do; as wide and as high as the terminal that stdout is. Called by the control loop.
 *
 * @param src what to show
 * @param[in,out] last of the screen before
 */
void stats_screen(const struct stats_source *src, struct stats_last *last);

/**
 * Add up a guest's counters. Any thread.
 *
 * @param src what to show
 * @param id device id
 * @param[out] sum its counters over all workers
 */
void stats_guest(const struct stats_source *src, uint16_t id, struct guest_counters *sum);

/**
 * Add up the uplink's counters. Any thread.
 *
 * @param src what to show
 * @param[out] sum its counters over all workers
 */
void stats_uplink(const struct stats_source *src, struct uplink_counters *sum);

/**
 * Register the commands below /vhost_switch/. Main thread, once.
 *
 * @param src what to show; must stay where it is
 * @return 0 or a negative errno
 */
int telemetry_init(const struct stats_source *src);

/** Answer with nothing from now on. Main thread, before the source is torn down. */
void telemetry_stop(void);

#endif /* CONTROL_STATS_H */
