/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "control/answer.h"
#include "control/stats.h"
#include "control/telemetry_ports.h"
#include "log/log.h"
#include "port/guest.h"
#include "switch/mirror.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

/* Of the file, since rte_telemetry calls back without an argument. */
static const struct stats_source *source;
static pthread_mutex_t source_lock = PTHREAD_MUTEX_INITIALIZER;

static bool
describe_guest(unsigned int id, struct dict *d)
{
	const struct guest *g = source->guests->by_id[id];
	char mac[TELEMETRY_MAC_LEN] = "";

	if (g == NULL)
		return false;
	if (g->port == NULL && guest_is_registered(g))
		telemetry_mac(g->mac, mac);
	answer_string(d, "state", stats_guest_state(g));
	if (g->port != NULL)
		answer_string(d, "port", g->port->name);
	answer_string(d, "mac", mac);
	answer_number(d, "vlan", g->port != NULL ? g->port->rules->settings->vlan : g->vlan);
	answer_number(d, "worker", g->worker);
	answer_number(d, "rx_rings", device_count_pairs(g->device->rx));
	answer_number(d, "tx_rings", device_count_pairs(g->device->tx));
	answer_number(d, "features", g->device->features);
	answer_string(d, "socket", g->socket);
	return true;
}

/* Whether frames go from and to a guest, and why not. */
static bool
describe_path(unsigned int id, struct dict *d)
{
	const struct guest *g = source->guests->by_id[id];
	const char *reason;

	if (g == NULL)
		return false;
	reason = stats_no_traffic_reason(g);
	answer_string(d, "state", *reason == '\0' ? "running" : "stopped");
	answer_string(d, "reason", reason);
	return true;
}

static void
add_drops(struct dict *d, const char *prefix, const struct drop_reason *reason,
	const uint64_t *count, unsigned int n)
{
	char name[RTE_TEL_MAX_STRING_LEN];
	unsigned int i;

	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s%s", prefix, reason[i].name);
		answer_number(d, name, count[i]);
	}
}

static bool
count_guest(unsigned int id, struct dict *d)
{
	struct guest_counters sum;
	struct guest_totals t;

	if (source->guests->by_id[id] == NULL)
		return false;
	stats_guest(source, (uint16_t)id, &sum);
	t = counters_totals(&sum);
	answer_number(d, "tx_total", t.tx_total);
	answer_number(d, "tx_dropped", t.tx_dropped);
	answer_number(d, "tx_successful", t.tx_ok);
	answer_number(d, "tx_direct", sum.tx_direct);
	if (source->guests->ports.in_use)
		answer_number(d, "fdb_full", sum.fdb_full);
	answer_number(d, "rx_total", t.rx_total);
	answer_number(d, "rx_dropped", t.rx_dropped);
	answer_number(d, "rx_successful", t.rx_ok);
	add_drops(d, "tx_drop_", tx_drop_reason, sum.tx_drop, TX_DROP_MAX);
	add_drops(d, "rx_drop_", rx_drop_reason, sum.rx_drop, RX_DROP_MAX);
	return true;
}

/* Load is busy_cycles over cycles, of the differences of two answers. */
static bool
describe_worker(unsigned int i, struct dict *d)
{
	const struct worker *w = source->workers[i];

	answer_number(d, "lcore", w->lcore);
	answer_number(d, "guests", source->guests->of_worker[i]->n);
	answer_number(d, "rounds", __atomic_load_n(&w->rounds, __ATOMIC_RELAXED));
	answer_number(d, "cycles", __atomic_load_n(&w->cycles, __ATOMIC_RELAXED));
	answer_number(d, "busy_cycles", __atomic_load_n(&w->busy_cycles, __ATOMIC_RELAXED));
	return true;
}

/* What device ids are below. */
static unsigned int
id_limit(void)
{
	return source->guests->ports.in_use ? ID_MAX : GUEST_MAX;
}

static int
answer_guests(const char *params, struct dict *d)
{
	return answer_each(params, d, id_limit(), &source->guests->mutex, describe_guest);
}

static int
answer_stats(const char *params, struct dict *d)
{
	return answer_each(params, d, id_limit(), &source->guests->mutex, count_guest);
}

static int
answer_paths(const char *params, struct dict *d)
{
	return answer_each(params, d, id_limit(), &source->guests->mutex, describe_path);
}

static int
answer_workers(const char *params, struct dict *d)
{
	return answer_each(params, d, source->nb_workers, &source->guests->mutex, describe_worker);
}

static int
answer_ports(const char *params, struct dict *d)
{
	return telemetry_ports(source, params, d);
}

static int
answer_fdb(const char *params, struct dict *d)
{
	return telemetry_fdb(source, params, d);
}

/*
 * What the port counts itself: frames lost before a queue was found for them, and for want of a
 * descriptor of their queue. ixgbe counts the second for all queues together in the first of the 16
 * that there are numbers for (82599 datasheet, 8.2.3.23.73: QPRDC).
 */
static void
read_card(uint16_t port, uint64_t *missed, uint64_t *overrun)
{
	struct rte_eth_stats card = { 0 };
	unsigned int i;

	*overrun = 0;
	rte_eth_stats_get(port, &card);
	*missed = card.imissed;
	for (i = 0; i < RTE_DIM(card.q_errors); i++)
		*overrun += card.q_errors[i];
}

static int
answer_port(const char *params, struct dict *d)
{
	const struct uplink *up = source->uplink;
	struct uplink_counters sum;
	uint64_t missed, overrun;
	uint32_t mbps = __atomic_load_n(&up->link.mbps, __ATOMIC_RELAXED);

	if (answer_refuse_parameter(params) < 0)
		return -EINVAL;
	answer_string(d, "present", up->present ? "yes" : "no");
	if (!up->present)
		return 0;
	stats_uplink(source, &sum);
	read_card(up->port, &missed, &overrun);
	answer_number(d, "port", up->port);
	answer_string(d, "steering", up->steering->name);
	answer_string(d, "link", mbps > 0 ? "up" : "down");
	answer_string(d, "link_speed", rte_eth_link_speed_to_str(mbps));
	answer_number(d, "guest_limit", up->guest_limit);
	answer_number(d, "rx_queues", up->nb_rxq);
	answer_number(d, "tx_queues", up->nb_txq);
	answer_number(d, "queues_per_guest", up->pool_queues);
	answer_number(d, "rx", sum.rx);
	answer_number(d, "tx_successful", sum.tx_ok);
	answer_number(d, "tx_dropped", sum.tx_drop);
	add_drops(d, "rx_drop_", uplink_drop_reason, sum.rx_drop, UPLINK_DROP_MAX);
	answer_number(d, "rx_missed", missed);
	answer_number(d, "rx_q0_errors", overrun);
	return 0;
}

/* "ID": mirror that guest from now on; "off": none; nothing: only tell. */
static int
set_mirror(const char *params)
{
	unsigned int id;
	int ret;

	if (!answer_is_given(params))
		return 0;
	if (!source->mirror->present)
		return -ENODEV;
	if (strcmp(params, "off") == 0) {
		guests_mirror(source->guests, ID_MAX);
		return 0;
	}
	ret = answer_parse_number(params, id_limit(), &id);
	if (ret < 0)
		return ret;
	guests_mirror(source->guests, (uint16_t)id);
	return 0;
}

static int
answer_mirror(const char *params, struct dict *d)
{
	const struct mirror *mirror = source->mirror;
	char guest[8] = "off";
	int ret = set_mirror(params);

	if (ret < 0)
		return ret;
	answer_string(d, "present", mirror->present ? "yes" : "no");
	if (!mirror->present)
		return 0;
	pthread_mutex_lock(&source->guests->mutex);
	if (source->guests->mirrored < ID_MAX)
		snprintf(guest, sizeof(guest), "%u", source->guests->mirrored);
	pthread_mutex_unlock(&source->guests->mutex);
	answer_number(d, "port", mirror->port);
	answer_string(d, "guest", guest);
	answer_number(d, "frames", __atomic_load_n(&mirror->sent, __ATOMIC_RELAXED));
	answer_number(d, "lost", __atomic_load_n(&mirror->lost, __ATOMIC_RELAXED));
	return 0;
}

static int
answer_log(const char *params, struct dict *d)
{
	struct log_counters sum;

	if (answer_refuse_parameter(params) < 0)
		return -EINVAL;
	log_count(&sum);
	answer_number(d, "lines", sum.lines);
	answer_number(d, "lines_lost", sum.lines_lost);
	answer_number(d, "lines_suppressed", sum.lines_suppressed);
	answer_number(d, "syslog_lost", sum.syslog_lost);
	answer_number(d, "statistics", sum.blocks);
	answer_number(d, "statistics_lost", sum.blocks_lost);
	return 0;
}

/* All that fits is in the answer; what is not begins at the value of "cut". */
#define CUT_HELP ". Go on with the value of cut"

static const struct {
	const char *command, *help;
	int (*answer)(const char *params, struct dict *d);
} commands[] = {
	/* Of a help text rte_telemetry keeps 127 bytes, and refuses the command of a longer one. */
	{ "/vhost_switch/guests",
	  "Connected guests. Parameter: a device id, or from=ID for that and later ones" CUT_HELP,
	  answer_guests },
	{ "/vhost_switch/stats",
	  "Counters of guests. Parameter: a device id, or from=ID for that and later ones" CUT_HELP,
	  answer_stats },
	{ "/vhost_switch/paths",
	  "Why guests have no traffic. Parameter: a device id, or from=ID and later" CUT_HELP,
	  answer_paths },
	{ "/vhost_switch/ports",
	  "Named ports. Parameter: a device id, or from=ID for that and later ones" CUT_HELP,
	  answer_ports },
	{ "/vhost_switch/fdb",
	  "Known MACs. Parameter: a device id, or from=N for that place and later ones" CUT_HELP,
	  answer_fdb },
	{ "/vhost_switch/port", "The uplink and its counters. No parameter", answer_port },
	{ "/vhost_switch/workers",
	  "What workers do. Parameter: a worker, or from=N for that and later ones" CUT_HELP,
	  answer_workers },
	{ "/vhost_switch/mirror",
	  "The mirror port. Parameter: device id of the guest to mirror, or off; without, only "
	  "shows it",
	  answer_mirror },
	{ "/vhost_switch/log", "What became of log lines and statistics. No parameter",
	  answer_log },
};

static int
on_command(const char *command, const char *params, struct rte_tel_data *data)
{
	struct dict d;
	unsigned int i;
	int ret = -ESHUTDOWN;

	answer_begin(&d, data);
	pthread_mutex_lock(&source_lock);
	for (i = 0; i < RTE_DIM(commands) && source != NULL; i++) {
		if (strcmp(command, commands[i].command) == 0)
			ret = commands[i].answer(params, &d);
	}
	pthread_mutex_unlock(&source_lock);
	return ret;
}

int
telemetry_init(const struct stats_source *src)
{
	unsigned int i;
	int ret;

	source = src;
	for (i = 0; i < RTE_DIM(commands); i++) {
		ret = rte_telemetry_register_cmd(commands[i].command, on_command, commands[i].help);
		if (ret < 0)
			return ret;
	}
	return 0;
}

void
telemetry_stop(void)
{
	pthread_mutex_lock(&source_lock);
	source = NULL;
	pthread_mutex_unlock(&source_lock);
}
