/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>

#include "control/telemetry_ports.h"
#include "port/guest.h"
#include "vhost/socket.h"

/* Of the file, since what fills in one entry is called without an argument. */
static const struct stats_source *source;

void
telemetry_mac(uint64_t key, char *text)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(key, &mac);
	snprintf(text, TELEMETRY_MAC_LEN, MAC_FMT, RTE_ETHER_ADDR_BYTES(&mac));
}

/* A set of VLANs as its key has it: "10;20;100-199", with dots if it is long. */
static void
vlans_text(const struct vlan_set *set, char *text, size_t size)
{
	uint16_t v, last;
	size_t len = 0;

	text[0] = '\0';
	for (v = 1; v < VLAN_NUM - 1; v = (uint16_t)(last + 1)) {
		last = v;
		if (!vlan_set_has(set, v))
			continue;
		while (last + 1 < VLAN_NUM - 1 && vlan_set_has(set, (uint16_t)(last + 1)))
			last++;
		if (len + sizeof(";4000-4001;...") > size) {
			snprintf(text + len, size - len, ";...");
			return;
		}
		len += (size_t)snprintf(text + len, size - len, last > v ? "%s%u-%u" : "%s%u",
			len > 0 ? ";" : "", v, last);
	}
}

/* Static addresses as their key has them, with dots if there are many. */
static void
macs_text(const struct port_settings *s, char *text, size_t size)
{
	size_t len = 0;
	unsigned int i;

	text[0] = '\0';
	for (i = 0; i < s->nb_macs; i++) {
		if (len + TELEMETRY_MAC_LEN + sizeof(";...") > size) {
			snprintf(text + len, size - len, ";...");
			return;
		}
		len += (size_t)snprintf(text + len, size - len, "%s" MAC_FMT, i > 0 ? ";" : "",
			RTE_ETHER_ADDR_BYTES(&s->mac[i]));
	}
}

static void
describe_settings(const struct port_settings *s, struct dict *d)
{
	char trunk[RTE_TEL_MAX_STRING_LEN], mac[RTE_TEL_MAX_STRING_LEN];

	macs_text(s, mac, sizeof(mac));
	vlans_text(&s->trunk, trunk, sizeof(trunk));
	answer_string(d, "socket", s->socket);
	answer_string(d, "mode", s->client ? "client" : "server");
	answer_number(d, "vlan", s->vlan);
	answer_string(d, "trunk", trunk);
	answer_string(d, "mac", mac);
	answer_number(d, "learn", s->learn);
	answer_string(d, "source_check", s->source_check ? "yes" : "no");
	answer_string(d, "flood", s->flood ? "yes" : "no");
	answer_string(d, "isolated", s->isolated ? "yes" : "no");
	answer_number(d, "rate", s->rate);
	answer_number(d, "rate_to", s->rate_to);
	answer_number(d, "frames", s->frames);
	answer_number(d, "storm", s->storm);
	answer_string(d, "link", s->link_up ? "up" : "down");
	answer_string(d, "offload", s->offload ? "yes" : "no");
}

static bool
describe_port(unsigned int id, struct dict *d)
{
	const struct port *p;
	char steering[16];

	if (id < GUEST_MAX)
		return false;
	p = &source->guests->ports.port[id - GUEST_MAX];
	if (!p->in_use)
		return false;
	answer_string(d, "name", p->name);
	answer_string(d, "guest", p->guest != NULL ? stats_guest_state(p->guest) : "none");
	answer_number(d, "refused", p->socket != NULL ? socket_refused(p->socket) : 0);
	answer_string(d, "steering", pools_text(source->guests, p->id, steering, sizeof(steering)));
	answer_number(d, "addresses", fdb_learned(source->guests->fdb, p->id));
	describe_settings(p->rules->settings, d);
	return true;
}

int
telemetry_ports(const struct stats_source *src, const char *params, struct dict *d)
{
	source = src;
	return answer_each(params, d, ID_MAX, &src->guests->mutex, describe_port);
}

/* Addresses of domains that are being listed. */
struct listing {
	struct dict *d;
	const struct request *request;
	unsigned int number; /* of the next address */
	bool full;
};

static bool
list_address(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	struct listing *l = arg;
	uint16_t domain = key_domain(key);
	char mac[TELEMETRY_MAC_LEN], text[8];
	struct rte_tel_data *data;
	struct dict one;

	if (domain == DOMAIN_SHARED || l->full)
		return false;
	l->number++;
	if (l->request->alone ? owner != l->request->first : l->number <= l->request->first)
		return false;
	data = rte_tel_data_alloc();
	if (data == NULL) {
		answer_cut(l->d, l->number - 1);
		l->full = true;
		return false;
	}
	telemetry_mac(key, mac);
	snprintf(text, sizeof(text), "%u", domain);
	answer_begin(&one, data);
	answer_string(&one, "domain", domain == DOMAIN_UNTAGGED ? "untagged" : text);
	answer_string(&one, "mac", mac);
	answer_string(&one, "port", owner == FDB_UPLINK ? "uplink"
		: source->guests->ports.port[owner - GUEST_MAX].name);
	answer_string(&one, "static", seen == 0 ? "yes" : "no");
	if (seen != 0)
		answer_number(&one, "age", fdb_silence(seen, fdb_now()) / 10);
	l->full = !answer_numbered(l->d, l->number - 1, data, one.len);
	return false;
}

/* The MACs of guests without a port. Returns false if the answer is full. */
static bool
list_guests(const struct request *request, struct dict *d)
{
	char mac[TELEMETRY_MAC_LEN], key[12];
	unsigned int id, end = request->alone ? request->first + 1 : GUEST_MAX;

	for (id = request->first; id < end && id < GUEST_MAX; id++) {
		const struct guest *g = source->guests->by_id[id];

		if (g == NULL || !guest_is_registered(g))
			continue;
		if (!answer_has_room(d, id, sizeof(key) + sizeof(mac) + strlen("\"\":\"\",")))
			return false;
		telemetry_mac(g->mac, mac);
		snprintf(key, sizeof(key), "%u", id); /* a colon may not be in a key */
		answer_string(d, key, mac);
	}
	return true;
}

int
telemetry_fdb(const struct stats_source *src, const char *params, struct dict *d)
{
	unsigned int limit = src->guests->ports.in_use ? UINT32_MAX : GUEST_MAX;
	struct request request;
	struct listing l = { .d = d, .request = &request, .number = GUEST_MAX };
	int ret = answer_parse(params, limit, &request);

	if (ret < 0)
		return ret;
	source = src;
	pthread_mutex_lock(&src->guests->mutex);
	if (list_guests(&request, d) && (!request.alone ||
			(request.first >= GUEST_MAX && request.first < ID_MAX)))
		fdb_visit(src->guests->fdb, list_address, &l);
	pthread_mutex_unlock(&src->guests->mutex);
	return 0;
}
