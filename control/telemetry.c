/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>
#include <rte_version.h>

#include "control/stats.h"
#include "log/log.h"
#include "port/guest.h"
#include "switch/mirror.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

/*
 * Guests are keys of dictionaries, by device id: one guest with all that is known of it. With an id
 * as parameter a command shows that guest alone, which always fits one answer.
 *
 * rte_telemetry leaves out what an answer has no room for, and does not tell. So the length of an
 * answer is added up while it is made, and an answer that would become too long ends with the key
 * "cut": its value is the parameter that asks for the rest.
 *
 * Older releases of rte_telemetry call unsigned numbers u64, newer ones uint.
 */
#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define add_u64 rte_tel_data_add_dict_u64
#else
#define add_u64 rte_tel_data_add_dict_uint
#endif

/**
 * Bytes that the entries of an answer may have as JSON. rte_telemetry writes an answer into 16 KiB
 * (MAX_OUTPUT_LEN in its telemetry.c, from 20.05 to 24.11); of these a command of up to 55 bytes
 * with its punctuation, and the entry "cut", need less than 128.
 */
#define ANSWER_MAX (16 * 1024 - 128)

/** Entries of an answer: one is left for "cut". */
#define ENTRIES_MAX (RTE_TEL_MAX_DICT_ENTRIES - 1)

#define CUT_PREFIX "from="

/* Of the file, since rte_telemetry calls back without an argument. */
static const struct stats_source *source;
static pthread_mutex_t source_lock = PTHREAD_MUTEX_INITIALIZER;

#define MAC_TEXT_LEN 18

/* A dictionary under construction. */
struct dict {
	struct rte_tel_data *data;
	size_t len; /* bytes that it has as JSON at most */
	unsigned int entries;
};

/* What a command was asked for. */
struct request {
	bool alone;	    /* one entry, first */
	unsigned int first; /* number of the first entry */
};

static void
dict_start(struct dict *d, struct rte_tel_data *data)
{
	*d = (struct dict){ .data = data, .len = strlen("{}") };
	rte_tel_data_start_dict(data);
}

static void
add_number(struct dict *d, const char *key, uint64_t value)
{
	char text[24];

	if (add_u64(d->data, key, value) != 0)
		return;
	d->entries++;
	d->len += strlen("\"\":,") + strlen(key) +
		(size_t)snprintf(text, sizeof(text), "%" PRIu64, value);
}

/*
 * rte_telemetry makes no valid JSON of bytes beyond ASCII: it takes them for negative numbers. So
 * they stand as \xHH in an answer, like bytes that no terminal shows. A text that is too long for
 * rte_telemetry then ends with dots.
 */
static void
printable(const char *from, char *text, size_t size)
{
	size_t len = 0;

	for (; *from != '\0'; from++) {
		bool plain = *from >= ' ' && *from <= '~';

		if (len + (plain ? 1 : 4) + sizeof("...") > size) {
			len += (size_t)snprintf(text + len, size - len, "...");
			break;
		}
		len += (size_t)snprintf(text + len, size - len, plain ? "%c" : "\\x%02x",
			(unsigned char)*from);
	}
	text[len] = '\0';
}

static void
add_string(struct dict *d, const char *key, const char *value)
{
	char text[RTE_TEL_MAX_STRING_LEN];
	const char *c;

	printable(value, text, sizeof(text));
	if (rte_tel_data_add_dict_string(d->data, key, text) != 0)
		return;
	d->entries++;
	d->len += strlen("\"\":\"\",") + strlen(key) + strlen(text);
	for (c = text; *c != '\0'; c++)
		d->len += *c == '"' || *c == '\\';
}

/* A parameter: decimal digits and nothing else, of a number below limit. */
static int
parse_number(const char *text, unsigned int limit, unsigned int *number)
{
	unsigned long value;

	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return -EINVAL;
	value = strtoul(text, NULL, 10); /* beyond its range ULONG_MAX */
	if (value >= limit)
		return -EINVAL;
	*number = (unsigned int)value;
	return 0;
}

/* rte_telemetry makes no difference between no parameter and one without a character. */
static bool
is_given(const char *params)
{
	return params != NULL && params[0] != '\0';
}

/* NUMBER: that one alone; from=NUMBER: the page that begins there; nothing: the first page. */
static int
parse_request(const char *params, unsigned int limit, struct request *request)
{
	*request = (struct request){ false, 0 };
	if (!is_given(params))
		return 0;
	if (strncmp(params, CUT_PREFIX, strlen(CUT_PREFIX)) == 0)
		return parse_number(params + strlen(CUT_PREFIX), limit, &request->first);
	request->alone = true;
	return parse_number(params, limit, &request->first);
}

/* The answer ends before this number. */
static void
cut(struct dict *d, unsigned int number)
{
	char next[24];

	snprintf(next, sizeof(next), CUT_PREFIX "%u", number);
	add_string(d, "cut", next);
}

/* Whether there is room for one more entry of so many bytes. If not, the answer ends here. */
static bool
has_room(struct dict *d, unsigned int number, size_t len)
{
	if (d->len + len <= ANSWER_MAX && d->entries < ENTRIES_MAX)
		return true;
	cut(d, number);
	return false;
}

/* One more entry, a dictionary by its number. Returns whether there is room for others. */
static bool
add_numbered(struct dict *d, unsigned int number, struct rte_tel_data *one, size_t len)
{
	char key[12];

	snprintf(key, sizeof(key), "%u", number);
	len += strlen("\"\":,") + strlen(key);
	if (!has_room(d, number, len) ||
			rte_tel_data_add_dict_container(d->data, key, one, 0) != 0) {
		rte_tel_data_free(one);
		return false;
	}
	d->entries++;
	d->len += len;
	return true;
}

/* Fills in what there is of a number. Returns false when there is nothing. */
typedef bool (*fill_fn)(unsigned int number, struct dict *d);

/* A dictionary of each number below limit, as many as fit; or what there is of one number. */
static int
answer_each(const char *params, struct dict *d, unsigned int limit, fill_fn fill)
{
	struct request request;
	unsigned int i;
	int ret = parse_request(params, limit, &request);
	bool room = true;

	if (ret < 0)
		return ret;
	pthread_mutex_lock(&source->guests->mutex);
	if (request.alone)
		fill(request.first, d);
	for (i = request.first; i < limit && room && !request.alone; i++) {
		struct rte_tel_data *data = rte_tel_data_alloc();
		struct dict one;

		if (data == NULL) {
			cut(d, i);
			break;
		}
		dict_start(&one, data);
		if (fill(i, &one))
			room = add_numbered(d, i, data, one.len);
		else
			rte_tel_data_free(data);
	}
	pthread_mutex_unlock(&source->guests->mutex);
	return 0;
}

static int
refuse_parameter(const char *params)
{
	return is_given(params) ? -EINVAL : 0;
}

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

static bool
describe_guest(unsigned int id, struct dict *d)
{
	const struct guest *g = source->guests->by_id[id];
	char mac[MAC_TEXT_LEN] = "";
	bool registered;

	if (g == NULL)
		return false;
	registered = __atomic_load_n(&g->registered, __ATOMIC_ACQUIRE);
	if (registered)
		mac_text(g, mac);
	add_string(d, "state", stats_guest_state(g));
	add_string(d, "mac", mac);
	add_number(d, "vlan", g->vlan);
	add_number(d, "worker", g->worker);
	add_number(d, "rx_rings", count_rings(g->device->rx));
	add_number(d, "tx_rings", count_rings(g->device->tx));
	add_number(d, "features", g->device->features);
	add_string(d, "socket", g->socket);
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
	add_string(d, "state", *reason == '\0' ? "running" : "stopped");
	add_string(d, "reason", reason);
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
		add_number(d, name, count[i]);
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
	add_number(d, "tx_total", t.tx_total);
	add_number(d, "tx_dropped", t.tx_dropped);
	add_number(d, "tx_successful", t.tx_ok);
	add_number(d, "tx_direct", sum.tx_direct);
	add_number(d, "rx_total", t.rx_total);
	add_number(d, "rx_dropped", t.rx_dropped);
	add_number(d, "rx_successful", t.rx_ok);
	add_drops(d, "tx_drop_", tx_drop_reason, sum.tx_drop, TX_DROP_MAX);
	add_drops(d, "rx_drop_", rx_drop_reason, sum.rx_drop, RX_DROP_MAX);
	return true;
}

/* Load is busy_cycles over cycles, of the differences of two answers. */
static bool
describe_worker(unsigned int i, struct dict *d)
{
	const struct worker *w = source->workers[i];

	add_number(d, "lcore", w->lcore);
	add_number(d, "guests", source->guests->of_worker[i]->n);
	add_number(d, "rounds", __atomic_load_n(&w->rounds, __ATOMIC_RELAXED));
	add_number(d, "cycles", __atomic_load_n(&w->cycles, __ATOMIC_RELAXED));
	add_number(d, "busy_cycles", __atomic_load_n(&w->busy_cycles, __ATOMIC_RELAXED));
	return true;
}

static int
answer_guests(const char *params, struct dict *d)
{
	return answer_each(params, d, GUEST_MAX, describe_guest);
}

static int
answer_stats(const char *params, struct dict *d)
{
	return answer_each(params, d, GUEST_MAX, count_guest);
}

static int
answer_paths(const char *params, struct dict *d)
{
	return answer_each(params, d, GUEST_MAX, describe_path);
}

static int
answer_workers(const char *params, struct dict *d)
{
	return answer_each(params, d, source->nb_workers, describe_worker);
}

/* Entries are MAC addresses and no dictionaries, alone too. */
static int
answer_fdb(const char *params, struct dict *d)
{
	struct request request;
	const struct guest *g;
	char mac[MAC_TEXT_LEN], key[12];
	unsigned int id, end;
	int ret = parse_request(params, GUEST_MAX, &request);

	if (ret < 0)
		return ret;
	end = request.alone ? request.first + 1 : GUEST_MAX;
	pthread_mutex_lock(&source->guests->mutex);
	for (id = request.first; id < end; id++) {
		g = source->guests->by_id[id];
		if (g == NULL || !__atomic_load_n(&g->registered, __ATOMIC_ACQUIRE))
			continue;
		if (!has_room(d, id, sizeof(key) + sizeof(mac) + strlen("\"\":\"\",")))
			break;
		mac_text(g, mac);
		snprintf(key, sizeof(key), "%u", id); /* a colon may not be in a key */
		add_string(d, key, mac);
	}
	pthread_mutex_unlock(&source->guests->mutex);
	return 0;
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

	if (refuse_parameter(params) < 0)
		return -EINVAL;
	add_string(d, "present", up->present ? "yes" : "no");
	if (!up->present)
		return 0;
	stats_uplink(source, &sum);
	read_card(up->port, &missed, &overrun);
	add_number(d, "port", up->port);
	add_string(d, "steering", up->steering->name);
	add_string(d, "link", mbps > 0 ? "up" : "down");
	add_string(d, "link_speed", rte_eth_link_speed_to_str(mbps));
	add_number(d, "guest_limit", up->guest_limit);
	add_number(d, "rx_queues", up->nb_rxq);
	add_number(d, "tx_queues", up->nb_txq);
	add_number(d, "queues_per_guest", up->pool_queues);
	add_number(d, "rx", sum.rx);
	add_number(d, "tx_successful", sum.tx_ok);
	add_number(d, "tx_dropped", sum.tx_drop);
	add_drops(d, "rx_drop_", uplink_drop_reason, sum.rx_drop, UPLINK_DROP_MAX);
	add_number(d, "rx_missed", missed);
	add_number(d, "rx_q0_errors", overrun);
	return 0;
}

/* "ID": mirror that guest from now on; "off": none; nothing: only tell. */
static int
set_mirror(const char *params)
{
	unsigned int id;
	int ret;

	if (!is_given(params))
		return 0;
	if (!source->mirror->present)
		return -ENODEV;
	if (strcmp(params, "off") == 0) {
		guests_mirror(source->guests, GUEST_MAX);
		return 0;
	}
	ret = parse_number(params, GUEST_MAX, &id);
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
	add_string(d, "present", mirror->present ? "yes" : "no");
	if (!mirror->present)
		return 0;
	pthread_mutex_lock(&source->guests->mutex);
	if (source->guests->mirrored < GUEST_MAX)
		snprintf(guest, sizeof(guest), "%u", source->guests->mirrored);
	pthread_mutex_unlock(&source->guests->mutex);
	add_number(d, "port", mirror->port);
	add_string(d, "guest", guest);
	add_number(d, "frames", __atomic_load_n(&mirror->sent, __ATOMIC_RELAXED));
	add_number(d, "lost", __atomic_load_n(&mirror->lost, __ATOMIC_RELAXED));
	return 0;
}

static int
answer_log(const char *params, struct dict *d)
{
	struct log_counters sum;

	if (refuse_parameter(params) < 0)
		return -EINVAL;
	log_count(&sum);
	add_number(d, "lines", sum.lines);
	add_number(d, "lines_lost", sum.lines_lost);
	add_number(d, "lines_suppressed", sum.lines_suppressed);
	add_number(d, "syslog_lost", sum.syslog_lost);
	add_number(d, "statistics", sum.blocks);
	add_number(d, "statistics_lost", sum.blocks_lost);
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
	{ "/vhost_switch/fdb",
	  "Learned MACs. Parameter: a device id, or from=ID for that and later ones" CUT_HELP,
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

	dict_start(&d, data);
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
