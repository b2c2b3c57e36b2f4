/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_branch_prediction.h>
#include <rte_byteorder.h>

#include "port/guest.h"
#include "switch/burst.h"
#include "switch/forward.h"
#include "switch/worker.h"
#include "uplink/vlan.h"

/*
 * Frames of named ports: to which domain each belongs, and whether its sender may send it. What is
 * read here is what every receiver gets, whatever the guest writes there meanwhile.
 */

/*
 * A source for which there is no room. The control loop looks whether another one can give way, ten
 * times a second at most.
 */
static enum tx_drop
allow_unlearned(struct worker *w, struct guest *g, const struct port_rules *rules, bool *unlearned)
{
	if (rules->settings->learn > 0 && g->asked_room != w->now) {
		g->asked_room = w->now;
		guests_request_eviction(w->sw->guests, g);
	}
	if (rules->settings->source_check)
		return TX_DROP_SOURCE_NOT_ALLOWED;
	*unlearned = true;
	return TX_DROP_MAX;
}

enum tx_drop
classify_source(struct worker *w, struct guest *g, const struct port_rules *rules, uint64_t key,
	bool *unlearned)
{
	struct rte_ether_addr mac;

	fdb_key_to_mac(key, &mac);
	if (unlikely(!rte_is_valid_assigned_ether_addr(&mac)))
		return TX_DROP_SOURCE_INVALID;
	switch (fdb_learn(w->sw->guests->fdb, key, g->id, rules->settings->learn, w->now)) {
	case FDB_LEARN_TAKEN:
		return TX_DROP_MAC_TAKEN;
	case FDB_LEARN_FULL:
		return allow_unlearned(w, g, rules, unlearned);
	case FDB_LEARN_MOVED:
		guests_report_address(w->sw->guests, g, key, GUEST_REPORT_MOVED);
		break;
	default:
		break;
	}
	g->last_source = key;
	return TX_DROP_MAX;
}

/*
 * A source that is not the one of the frame before. Returns whether the guest may send from it; if
 * so, the frame may yet be one that is dropped for another reason, which stays.
 */
static bool
see_source(struct burst *b, uint16_t i, uint64_t key)
{
	bool unlearned = false;
	enum tx_drop why = classify_source(b->worker, b->from, b->rules, key, &unlearned);

	if (unlearned)
		b->unlearned[b->nb_unlearned++] = i;
	if (why != TX_DROP_MAX)
		b->why[i] = (uint8_t)why;
	return why == TX_DROP_MAX;
}

/* The domain of a tagged frame. A second tag would count where the first one is taken off. */
static uint16_t
tagged_domain(struct burst *b, uint16_t i)
{
	const uint8_t *head = b->head[i];
	uint16_t tci = (uint16_t)(head[14] << 8 | head[15]);

	b->tci[i] = tci & (uint16_t)~VLAN_VID_MASK;
	if (b->len[i] < HEAD_LEN || (head[16] == 0x81 && head[17] == 0x00))
		return DOMAIN_NONE;
	if ((tci & VLAN_VID_MASK) == 0) /* a priority tag names no VLAN */
		return b->rules->native;
	return port_tagged_domain(b->rules, tci & VLAN_VID_MASK);
}

/* The tag may be taken off, and then the checksum would be of the Ethernet header. */
static bool
has_checksum_in_tag(const struct burst *b, uint16_t i, rte_be16_t type)
{
	return type == RTE_BE16(RTE_ETHER_TYPE_VLAN) && burst_asks(b, i) != 0 &&
		b->header[i].csum_start < RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
}

void
burst_classify(struct burst *b, uint16_t i)
{
	uint64_t bits = code_of_asks(burst_asks(b, i)), source;
	uint16_t domain = b->rules->native;
	uint8_t *head = b->head[i];
	rte_be16_t type;

	/* Of a whole frame the first part is there. */
	if (b->len[i] < HEAD_LEN) {
		memset(head + b->len[i], 0, HEAD_LEN - b->len[i]);
		memcpy(head, b->data[i], b->len[i]);
	} else if (b->data[i] != head) {
		memcpy(head + HEAD_FIRST, b->data[i] + HEAD_FIRST, HEAD_LEN - HEAD_FIRST);
	}
	rte_compiler_barrier(); /* what is used from here on is the copy */
	memcpy(&type, head + 2 * RTE_ETHER_ADDR_LEN, sizeof(type));
	if (unlikely(type == RTE_BE16(RTE_ETHER_TYPE_VLAN))) {
		domain = tagged_domain(b, i);
		bits |= KEY_TAGGED >> KEY_CODE_SHIFT;
	}
	source = fdb_key((const void *)(head + RTE_ETHER_ADDR_LEN)) | domain_key(domain);
	if (unlikely(domain == DOMAIN_NONE)) {
		b->why[i] = TX_DROP_VLAN_NOT_ALLOWED;
		bits = CODE_DROP;
		domain = DOMAIN_SHARED;
	} else if (unlikely(has_checksum_in_tag(b, i, type))) {
		b->why[i] = TX_DROP_OFFLOAD;
		bits = CODE_DROP;
	} else if (source != b->from->last_source && !see_source(b, i, source)) {
		bits = CODE_DROP;
	}
	b->key[i] = fdb_key((const void *)head) | domain_key(domain) | bits << KEY_CODE_SHIFT;
	b->source = b->from->last_source;
}

/*
 * The source that a guest sent from last is looked up again in each tenth of a second, so that the
 * FDB knows of it, and when other addresses may be the port's.
 */
static void
refresh_source(const struct worker *w, struct guest *from, const struct port_rules *rules)
{
	if (likely(from->last_seen == w->now && from->last_reload == rules->reload))
		return;
	from->last_seen = w->now;
	from->last_reload = rules->reload;
	from->last_source = 0;
}

void
burst_set_sender(struct burst *b, struct worker *w, struct guest *from,
	const struct port_rules *rules)
{
	refresh_source(w, from, rules);
	b->rules = rules;
	b->worker = w;
	b->from = from;
	b->source = from->last_source;
	b->nb_unlearned = 0;
	/* Without a native VLAN no frame is a usual one. */
	b->native_key = rules->native == DOMAIN_NONE ? UINT64_MAX : domain_key(rules->native);
}

void
classify_count_unlearned(const struct burst *b, uint16_t end)
{
	uint16_t i;

	for (i = 0; i < b->nb_unlearned && b->unlearned[i] < end; i++)
		b->worker->counters.guest[b->from->id].fdb_full++;
}
