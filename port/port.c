/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port/guest.h"
#include "port/port.h"
#include "thread.h"

struct port *
ports_by_name(struct ports *ports, const char *name)
{
	unsigned int i;

	for (i = 0; i < PORT_MAX; i++) {
		struct port *p = &ports->port[i];

		if (p->in_use && !p->removed && strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

/* The guests of a domain, NULL if there is none or no memory: then nobody is flooded. */
static struct guest_set *
collect_domain(struct ports *ports, uint16_t domain)
{
	struct guest *member[PORT_MAX];
	struct guest_set *set;
	unsigned int i, n = 0;

	for (i = 0; i < PORT_MAX; i++) {
		struct port *p = &ports->port[i];

		if (p->in_use && p->guest != NULL && port_has_domain(p->rules, domain))
			member[n++] = p->guest;
	}
	if (n == 0)
		return NULL;
	set = malloc(sizeof(*set) + n * sizeof(set->guest[0]));
	if (set == NULL)
		return NULL;
	set->n = n;
	memcpy(set->guest, member, n * sizeof(member[0]));
	return set;
}

void
ports_publish(struct guests *guests, const struct port_rules *rules)
{
	struct ports *ports = &guests->ports;
	struct guest_set **old = calloc(DOMAIN_NUM, sizeof(*old));
	struct guest_set *now;
	uint16_t domain;

	for (domain = 1; domain < DOMAIN_NUM; domain++) {
		if (rules != NULL && !port_has_domain(rules, domain))
			continue;
		now = __atomic_exchange_n(&ports->domain[domain], collect_domain(ports, domain),
			__ATOMIC_ACQ_REL);
		if (old != NULL) {
			old[domain] = now;
		} else if (now != NULL) { /* slower, and without memory */
			wait_for_workers(guests->rcu);
			free(now);
		}
	}
	wait_for_workers(guests->rcu);
	for (domain = 1; domain < DOMAIN_NUM && old != NULL; domain++)
		free(old[domain]);
	free(old);
}

/* Which domains have a port. */
static void
note_domains(struct ports *ports, const struct port_list *list)
{
	uint64_t bits[DOMAIN_NUM / 64] = { 0 };
	unsigned int i, k;

	for (i = 0; i < list->config->n; i++) {
		const struct port_rules *r = &list->rules[i];

		for (k = 0; k < RTE_DIM(bits); k++)
			bits[k] |= r->settings->trunk.word[k];
		if (r->native != DOMAIN_NONE)
			bits[r->native / 64] |= RTE_BIT64(r->native % 64);
	}
	for (k = 0; k < RTE_DIM(bits); k++)
		__atomic_store_n(&ports->has_port[k], bits[k], __ATOMIC_RELAXED);
}

/* The addresses that are to be a port's from the start. */
static void
set_static(struct guests *guests, const struct port *p)
{
	const struct port_settings *s = p->rules->settings;
	unsigned int i, failed = 0;
	uint16_t domain;

	for (domain = 1; domain < DOMAIN_NUM && s->nb_macs > 0; domain++) {
		if (!port_has_domain(p->rules, domain))
			continue;
		for (i = 0; i < s->nb_macs; i++)
			failed += fdb_set_static(guests->fdb,
				fdb_key_of(&s->mac[i]) | domain_key(domain), p->id) < 0;
	}
	if (failed > 0)
		RTE_LOG(ERR, CONFIG, "port %s: %u addresses of mac have no room in the MAC table\n",
			p->name, failed);
}

/* Addresses of a port: static ones, or those that it has learned. */
struct addresses {
	uint16_t owner;
	bool is_static;
};

static bool
is_of_port(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	const struct addresses *which = arg;

	return key_domain(key) != DOMAIN_SHARED && owner == which->owner &&
		(seen == 0) == which->is_static;
}

void
ports_forget(struct guests *guests, const struct port *p, bool is_static)
{
	struct addresses which = { p->id, is_static };

	fdb_flush(guests->fdb, guests->rcu, is_of_port, &which);
}

static const struct port_rules *
rules_in(const struct port_list *list, const struct port_settings *settings)
{
	return &list->rules[settings - list->config->port];
}

static struct port *
take_slot(struct ports *ports)
{
	unsigned int i;

	for (i = 0; i < PORT_MAX && ports->port[i].in_use; i++)
		;
	return i < PORT_MAX ? &ports->port[i] : NULL;
}

static void
add_port(struct guests *guests, const struct port_rules *rules)
{
	struct port *p = take_slot(&guests->ports);

	if (p == NULL) { /* guests of removed ports have not gone yet */
		RTE_LOG(ERR, CONFIG, "port %s: not added, all %u places are taken\n",
			rules->settings->name, PORT_MAX);
		return;
	}
	*p = (struct port){ .rules = rules, .in_use = true,
		.id = (uint16_t)(GUEST_MAX + (p - guests->ports.port)) };
	snprintf(p->name, sizeof(p->name), "%s", rules->settings->name);
	set_static(guests, p);
}

static void
remove_port(struct guests *guests, const char *name)
{
	struct port *p = ports_by_name(&guests->ports, name);

	if (p == NULL)
		return;
	p->removed = true;
	ports_forget(guests, p, true);
	p->last_settings = *p->rules->settings;
	p->last_rules = port_rules_of(&p->last_settings);
	__atomic_store_n(&p->rules, &p->last_rules, __ATOMIC_RELEASE);
}

/* Keys that say to which domains a port belongs. */
#define DOMAIN_KEYS (RTE_BIT32(PORT_KEY_VLAN) | RTE_BIT32(PORT_KEY_TRUNK))

/* Those that decide whether a frame may be delivered that waits for its guest. */
#define STALE_KEYS (DOMAIN_KEYS | RTE_BIT32(PORT_KEY_LINK))

static void
change_port(struct guests *guests, const struct port_list *list, const struct port_change *c)
{
	struct port *p = ports_by_name(&guests->ports, c->after->name);
	const struct port_rules *rules = rules_in(list, c->after);

	if (p == NULL)
		return;
	if (c->keys & (DOMAIN_KEYS | RTE_BIT32(PORT_KEY_MAC)))
		ports_forget(guests, p, true);
	__atomic_store_n(&p->rules, rules, __ATOMIC_RELEASE);
	if (c->keys & (DOMAIN_KEYS | RTE_BIT32(PORT_KEY_MAC)))
		set_static(guests, p);
}

static void
apply_changes(struct guests *guests, const struct port_list *list,
	const struct ports_changes *changes)
{
	unsigned int i;

	for (i = 0; i < changes->n; i++) {
		const struct port_change *c = &changes->port[i];

		if (c->kind == PORT_REMOVED || c->kind == PORT_REPLACED)
			remove_port(guests, c->before->name);
	}
	for (i = 0; i < changes->n; i++) {
		if (changes->port[i].kind == PORT_CHANGED)
			change_port(guests, list, &changes->port[i]);
	}
}

/*
 * What waits for guests of changed ports is of the domains before: workers drop it. Not before all
 * of them have the new sets, for until then more of it may come. Waits for a grace period.
 */
static void
drop_stale(struct guests *guests, const struct ports_changes *changes)
{
	unsigned int i;

	for (i = 0; i < changes->n; i++) {
		const struct port_change *c = &changes->port[i];
		struct port *p = c->kind == PORT_CHANGED && c->keys & STALE_KEYS ?
			ports_by_name(&guests->ports, c->after->name) : NULL;

		if (p != NULL && p->guest != NULL)
			__atomic_fetch_add(&p->guest->serial, 1, __ATOMIC_RELAXED);
	}
	wait_for_workers(guests->rcu);
}

/* Addresses of ports that may learn less than before: those that were seen last stay. */
static void
forget_surplus(struct guests *guests)
{
	unsigned int i;

	for (i = 0; i < PORT_MAX; i++) {
		const struct port *p = &guests->ports.port[i];

		if (p->in_use && !p->removed &&
				fdb_learned(guests->fdb, p->id) > p->rules->settings->learn)
			fdb_keep_newest(guests->fdb, guests->rcu, p->id,
				p->rules->settings->learn);
	}
}

/* Ports that did not change get the same rules from the new list. */
static void
move_unchanged(struct ports *ports, const struct port_list *list)
{
	const struct port_settings *s;
	unsigned int i;

	for (i = 0; i < PORT_MAX; i++) {
		struct port *p = &ports->port[i];

		s = p->in_use && !p->removed ? ports_find(list->config, p->name) : NULL;
		if (s != NULL)
			__atomic_store_n(&p->rules, rules_in(list, s), __ATOMIC_RELEASE);
	}
}

/* Addresses that ports have learned in domains that they have left. */
static bool
is_outside_domains(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	const struct ports *ports = arg;
	uint16_t domain = key_domain(key);

	RTE_SET_USED(seen);
	if (domain == DOMAIN_SHARED || owner < GUEST_MAX || owner >= ID_MAX)
		return false;
	return !port_has_domain(ports->port[owner - GUEST_MAX].rules, domain);
}

static void
free_list(struct port_list *list)
{
	if (list == NULL)
		return;
	ports_free(list->config);
	free(list);
}

int
ports_apply(struct guests *guests, struct ports_config *config,
	const struct ports_changes *changes)
{
	struct port_list *list = calloc(1, sizeof(*list)), *old = guests->ports.list;
	unsigned int i;

	if (list == NULL)
		return -ENOMEM;
	list->config = config;
	guests->ports.reloads++;
	for (i = 0; i < config->n; i++) {
		list->rules[i] = port_rules_of(&config->port[i]);
		list->rules[i].reload = guests->ports.reloads;
	}
	pthread_mutex_lock(&guests->mutex);
	if (changes != NULL)
		apply_changes(guests, list, changes);
	move_unchanged(&guests->ports, list);
	note_domains(&guests->ports, list);
	__atomic_store_n(&guests->ports.flood_unknown, config->flood_unknown, __ATOMIC_RELAXED);
	guests->ports.list = list;
	if (changes != NULL) {
		ports_publish(guests, NULL); /* and a grace period */
		drop_stale(guests, changes);
		fdb_flush(guests->fdb, guests->rcu, is_outside_domains, &guests->ports);
		forget_surplus(guests);
	}
	guests_clear_vlans(guests);
	pthread_mutex_unlock(&guests->mutex);
	free_list(old);
	return 0;
}

void
ports_add(struct guests *guests, const struct port_settings *settings)
{
	pthread_mutex_lock(&guests->mutex);
	add_port(guests, rules_in(guests->ports.list, settings));
	pthread_mutex_unlock(&guests->mutex);
}

void
ports_release(struct ports *ports)
{
	unsigned int i;

	for (i = 0; i < DOMAIN_NUM; i++) {
		free(ports->domain[i]);
		ports->domain[i] = NULL;
	}
	free_list(ports->list);
	ports->list = NULL;
}
