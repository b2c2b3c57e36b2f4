/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>

#include <rte_telemetry.h>
#include <rte_version.h>

#include "log/log.h"
#include "stats/stats.h"
#include "switch/direct.h"

/*
 * Guests are keys of dictionaries, by device id: one guest with all that is known of it. With a
 * parameter a command shows that guest alone, which always fits one answer.
 *
 * Older releases of rte_telemetry call unsigned numbers u64, newer ones uint.
 */
#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define add_number rte_tel_data_add_dict_u64
#else
#define add_number rte_tel_data_add_dict_uint
#endif

static const struct stats_source *source;
static pthread_mutex_t source_lock = PTHREAD_MUTEX_INITIALIZER;

#define MAC_TEXT_LEN 18

static void
mac_text(const struct guest *g, char *text)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(g->mac, &mac);
	snprintf(text, MAC_TEXT_LEN, MAC_FMT, RTE_ETHER_ADDR_BYTES(&mac));
}

static unsigned int
count_rings(const uint64_t *words)
{
	unsigned int i, n = 0;

	for (i = 0; i < QUEUE_PAIR_WORDS; i++)
		n += (unsigned int)__builtin_popcountll(
			__atomic_load_n(&words[i], __ATOMIC_RELAXED));
	return n;
}

static void
describe_guest(const struct guest *g, struct rte_tel_data *d)
{
	bool registered = __atomic_load_n(&g->registered, __ATOMIC_ACQUIRE);
	enum direct_bar bar = direct_bar_of(g);
	char mac[MAC_TEXT_LEN] = "";

	if (registered)
		mac_text(g, mac);
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "state",
		bar == DIRECT_BAR_BROKEN ? "switched off" : registered ? "registered" :
		g->refused ? "refused" : "ready");
	rte_tel_data_add_dict_string(d, "mac", mac);
	add_number(d, "vlan", g->vlan);
	add_number(d, "worker", g->worker);
	add_number(d, "rx_rings", count_rings(g->rings->rx));
	add_number(d, "tx_rings", count_rings(g->rings->tx));
	add_number(d, "features", g->features);
	rte_tel_data_add_dict_string(d, "socket", g->socket);
}

/* By which path frames from and to a guest are copied, and why not by the direct one. */
static void
describe_path(const struct guest *g, struct rte_tel_data *d)
{
	enum direct_bar bar = direct_bar_of(g);

	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "path", bar == DIRECT_BAR_NONE ? "direct" : "ordinary");
	rte_tel_data_add_dict_string(d, "reason", direct_bar_text[bar]);
}

static void
add_drops(struct rte_tel_data *d, const char *prefix, const struct drop_reason *reason,
	const uint64_t *count, unsigned int n)
{
	char name[RTE_TEL_MAX_STRING_LEN];
	unsigned int i;

	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s%s", prefix, reason[i].name);
		add_number(d, name, count[i]);
	}
}

static void
count_guest(const struct guest *g, struct rte_tel_data *d)
{
	struct guest_counters sum;
	struct guest_totals t;

	stats_guest(source, g->id, &sum);
	t = counters_totals(&sum);
	rte_tel_data_start_dict(d);
	add_number(d, "tx_total", t.tx_total);
	add_number(d, "tx_dropped", t.tx_dropped);
	add_number(d, "tx_successful", t.tx_ok);
	add_number(d, "tx_direct", sum.tx_direct);
	add_number(d, "rx_total", t.rx_total);
	add_number(d, "rx_dropped", t.rx_dropped);
	add_number(d, "rx_successful", t.rx_ok);
	add_drops(d, "tx_drop_", tx_drop_reason, sum.tx_drop, TX_DROP_MAX);
	add_drops(d, "rx_drop_", rx_drop_reason, sum.rx_drop, RX_DROP_MAX);
}

/* Add a dictionary under a number, which is freed where it does not fit. */
static int
add_numbered(struct rte_tel_data *d, unsigned int number, struct rte_tel_data *one)
{
	char key[12];
	int ret;

	snprintf(key, sizeof(key), "%u", number);
	ret = rte_tel_data_add_dict_container(d, key, one, 0);
	if (ret < 0)
		rte_tel_data_free(one);
	return ret;
}

/* One dictionary of a guest each, by id; with a parameter that guest's alone. */
static int
each_guest(const char *params, struct rte_tel_data *d,
	void (*fill)(const struct guest *g, struct rte_tel_data *d))
{
	struct rte_tel_data *one;
	unsigned long only = ULONG_MAX;
	int ret = 0;
	unsigned int id;

	if (params != NULL && params[0] != '\0') {
		only = strtoul(params, NULL, 10);
		if (only >= GUEST_MAX)
			return -EINVAL;
	}
	pthread_mutex_lock(&source->guests->mutex);
	if (only != ULONG_MAX && source->guests->by_id[only] != NULL)
		fill(source->guests->by_id[only], d);
	else
		rte_tel_data_start_dict(d);
	for (id = 0; id < GUEST_MAX && only == ULONG_MAX && ret == 0; id++) {
		if (source->guests->by_id[id] == NULL)
			continue;
		one = rte_tel_data_alloc();
		if (one == NULL) {
			ret = -ENOMEM;
			break;
		}
		fill(source->guests->by_id[id], one);
		ret = add_numbered(d, id, one);
	}
	pthread_mutex_unlock(&source->guests->mutex);
	return ret;
}

static int
answer_guests(const char *params, struct rte_tel_data *d)
{
	return each_guest(params, d, describe_guest);
}

static int
answer_stats(const char *params, struct rte_tel_data *d)
{
	return each_guest(params, d, count_guest);
}

static int
answer_paths(const char *params, struct rte_tel_data *d)
{
	return each_guest(params, d, describe_path);
}

static int
answer_fdb(const char *params, struct rte_tel_data *d)
{
	const struct guest *g;
	char mac[MAC_TEXT_LEN], key[8];
	unsigned int id;

	RTE_SET_USED(params);
	rte_tel_data_start_dict(d);
	pthread_mutex_lock(&source->guests->mutex);
	for (id = 0; id < GUEST_MAX; id++) {
		g = source->guests->by_id[id];
		if (g == NULL || !__atomic_load_n(&g->registered, __ATOMIC_ACQUIRE))
			continue;
		mac_text(g, mac);
		snprintf(key, sizeof(key), "%u", id); /* a colon may not be in a key */
		rte_tel_data_add_dict_string(d, key, mac);
	}
	pthread_mutex_unlock(&source->guests->mutex);
	return 0;
}

static int
answer_port(const char *params, struct rte_tel_data *d)
{
	const struct uplink *up = source->uplink;
	struct uplink_counters sum;
	uint32_t mbps = __atomic_load_n(&up->link_mbps, __ATOMIC_RELAXED);

	RTE_SET_USED(params);
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "present", up->present ? "yes" : "no");
	if (!up->present)
		return 0;
	stats_uplink(source, &sum);
	add_number(d, "port", up->port);
	rte_tel_data_add_dict_string(d, "steering", up->steering->name);
	rte_tel_data_add_dict_string(d, "link", mbps > 0 ? "up" : "down");
	rte_tel_data_add_dict_string(d, "link_speed", rte_eth_link_speed_to_str(mbps));
	add_number(d, "guest_limit", up->guest_limit);
	add_number(d, "rx_queues", up->nb_rxq);
	add_number(d, "tx_queues", up->nb_txq);
	add_number(d, "queues_per_guest", up->pool_queues);
	add_number(d, "rx", sum.rx);
	add_number(d, "tx_successful", sum.tx_ok);
	add_number(d, "tx_dropped", sum.tx_drop);
	add_drops(d, "rx_drop_", uplink_drop_reason, sum.rx_drop, UPLINK_DROP_MAX);
	return 0;
}

/* Load is busy_cycles over cycles, of the differences of two answers. */
static int
answer_workers(const char *params, struct rte_tel_data *d)
{
	unsigned int i;
	int ret = 0;

	RTE_SET_USED(params);
	rte_tel_data_start_dict(d);
	pthread_mutex_lock(&source->guests->mutex);
	for (i = 0; i < source->nb_workers && ret == 0; i++) {
		const struct worker *w = source->workers[i];
		struct rte_tel_data *one = rte_tel_data_alloc();

		if (one == NULL) {
			ret = -ENOMEM;
			break;
		}
		rte_tel_data_start_dict(one);
		add_number(one, "lcore", w->lcore);
		add_number(one, "guests", source->guests->of_worker[i]->n);
		add_number(one, "rounds", __atomic_load_n(&w->rounds, __ATOMIC_RELAXED));
		add_number(one, "cycles", __atomic_load_n(&w->cycles, __ATOMIC_RELAXED));
		add_number(one, "busy_cycles", __atomic_load_n(&w->busy_cycles, __ATOMIC_RELAXED));
		ret = add_numbered(d, i, one);
	}
	pthread_mutex_unlock(&source->guests->mutex);
	return ret;
}

/* "ID": mirror that guest from now on; "off": none; nothing: only tell. */
static int
set_mirror(const char *params)
{
	unsigned long id;
	char *end;

	if (params == NULL || params[0] == '\0')
		return 0;
	if (!source->mirror->present)
		return -ENODEV;
	if (strcmp(params, "off") == 0) {
		guests_mirror(source->guests, GUEST_MAX);
		return 0;
	}
	id = strtoul(params, &end, 10);
	if (*end != '\0' || id >= GUEST_MAX)
		return -EINVAL;
	guests_mirror(source->guests, (uint16_t)id);
	return 0;
}

static int
answer_mirror(const char *params, struct rte_tel_data *d)
{
	const struct mirror *mirror = source->mirror;
	char guest[8] = "off";
	int ret = set_mirror(params);

	if (ret < 0)
		return ret;
	rte_tel_data_start_dict(d);
	rte_tel_data_add_dict_string(d, "present", mirror->present ? "yes" : "no");
	if (!mirror->present)
		return 0;
	pthread_mutex_lock(&source->guests->mutex);
	if (source->guests->mirrored < GUEST_MAX)
		snprintf(guest, sizeof(guest), "%u", source->guests->mirrored);
	pthread_mutex_unlock(&source->guests->mutex);
	add_number(d, "port", mirror->port);
	rte_tel_data_add_dict_string(d, "guest", guest);
	add_number(d, "frames", __atomic_load_n(&mirror->sent, __ATOMIC_RELAXED));
	add_number(d, "lost", __atomic_load_n(&mirror->lost, __ATOMIC_RELAXED));
	return 0;
}

static int
answer_log(const char *params, struct rte_tel_data *d)
{
	struct log_counters sum;

	RTE_SET_USED(params);
	log_count(&sum);
	rte_tel_data_start_dict(d);
	add_number(d, "lines", sum.lines);
	add_number(d, "lines_lost", sum.lines_lost);
	add_number(d, "lines_suppressed", sum.lines_suppressed);
	add_number(d, "syslog_lost", sum.syslog_lost);
	add_number(d, "statistics", sum.blocks);
	add_number(d, "statistics_lost", sum.blocks_lost);
	return 0;
}

static const struct {
	const char *command, *help;
	int (*answer)(const char *params, struct rte_tel_data *d);
} commands[] = {
	{ "/vhost_switch/guests", "Connected guests. Parameter: device id, optional", answer_guests },
	{ "/vhost_switch/stats", "Counters and drop reasons. Parameter: device id, optional",
	  answer_stats },
	{ "/vhost_switch/paths", "How guests' frames are copied, and why. Parameter: device id, optional",
	  answer_paths },
	{ "/vhost_switch/fdb", "Device ids and the MAC addresses learned of them", answer_fdb },
	{ "/vhost_switch/port", "The uplink and its counters", answer_port },
	{ "/vhost_switch/workers", "What the workers do", answer_workers },
	{ "/vhost_switch/mirror", "The mirror port. Parameter: device id to mirror, or off; optional",
	  answer_mirror },
	{ "/vhost_switch/log", "What became of log lines and statistics", answer_log },
};

static int
on_command(const char *command, const char *params, struct rte_tel_data *d)
{
	unsigned int i;
	int ret = -ESHUTDOWN;

	pthread_mutex_lock(&source_lock);
	for (i = 0; i < RTE_DIM(commands) && source != NULL; i++) {
		if (strcmp(command, commands[i].command) == 0)
			ret = commands[i].answer(params, d);
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
