/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/reload.h"
#include "port/guest.h"
#include "vhost/socket.h"

/* Telemetry looks at it too. */
static void
set_socket(struct guests *guests, struct port *p, struct vhost_socket *s)
{
	pthread_mutex_lock(&guests->mutex);
	p->socket = s;
	pthread_mutex_unlock(&guests->mutex);
}

/* Add a port that is not there yet, and make its socket, unless it has one. */
static int
open_port(struct guests *guests, const struct port_settings *settings)
{
	struct port *p = ports_by_name(&guests->ports, settings->name);

	if (p == NULL) {
		ports_add(guests, settings);
		p = ports_by_name(&guests->ports, settings->name);
	}
	if (p == NULL)
		return -ENOENT;
	if (p->socket == NULL)
		set_socket(guests, p, socket_open_port(p->rules->settings, p));
	return p->socket != NULL ? 0 : -EIO;
}

/* All ports are there: once for all of them. */
static void
assign_pools(struct guests *guests)
{
	pthread_mutex_lock(&guests->mutex);
	pools_update(guests);
	pthread_mutex_unlock(&guests->mutex);
}

int
reload_first(struct guests *guests, struct ports_config *ports)
{
	unsigned int i;
	int ret = ports_apply(guests, ports, NULL);

	for (i = 0; i < ports->n && ret == 0; i++)
		ret = open_port(guests, &ports->port[i]);
	assign_pools(guests);
	return ret;
}

/* Disconnect the guest of a removed port; when it has left, the port's place is free. */
static void
close_port(struct guests *guests, struct port *p)
{
	if (p->socket != NULL)
		socket_close_port(p->socket);
	pthread_mutex_lock(&guests->mutex);
	p->socket = NULL;
	if (p->guest == NULL)
		p->in_use = false;
	pthread_mutex_unlock(&guests->mutex);
}

/* Removed ports, whose sockets are to be closed before others are made at the same paths. */
static void
close_removed(struct guests *guests)
{
	unsigned int i;

	for (i = 0; i < PORT_MAX; i++) {
		struct port *p = &guests->ports.port[i];

		if (p->in_use && p->removed)
			close_port(guests, p);
	}
}

static void
use(struct guests *guests, struct ports_config *after, const struct ports_changes *changes)
{
	char text[64];
	unsigned int i;

	/* After this the list before is gone, and with it what changes says of it. */
	ports_changes_text(changes, text, sizeof(text));
	if (ports_apply(guests, after, changes) < 0) {
		RTE_LOG(ERR, CONFIG, "config: nothing changed: no memory\n");
		ports_free(after);
		return;
	}
	close_removed(guests);
	for (i = 0; i < after->n; i++) /* also one that had no place or no socket the last time */
		open_port(guests, &after->port[i]);
	assign_pools(guests);
	RTE_LOG(INFO, CONFIG, "config: %s\n", text);
}

void
reload_again(const struct config *cfg, struct guests *guests)
{
	const struct ports_config *before = guests->ports.list->config;
	struct ports_changes *changes = malloc(sizeof(*changes));
	struct ports_config *after;
	struct error_line error;

	after = ports_load(cfg, &error);
	if (after == NULL || sockets_check_ports(cfg, after, before, &error) < 0) {
		RTE_LOG(ERR, CONFIG, "config: nothing changed: %s\n", error.text);
		ports_free(after);
	} else if (changes == NULL) {
		RTE_LOG(ERR, CONFIG, "config: nothing changed: no memory\n");
		ports_free(after);
	} else {
		ports_compare(before, after, changes);
		use(guests, after, changes);
	}
	free(changes);
}

/* What is old now. */
struct age {
	uint32_t now, max; /* tenths of a second */
};

static bool
is_old(uint64_t key, uint16_t owner, uint32_t seen, void *arg)
{
	const struct age *age = arg;

	RTE_SET_USED(owner);
	return key_domain(key) != DOMAIN_SHARED && seen != 0 &&
		fdb_silence(seen, age->now) > age->max;
}

void
reload_age_addresses(struct guests *guests)
{
	struct age age;

	if (!guests->ports.in_use)
		return;
	age.now = fdb_now();
	age.max = guests->ports.list->config->mac_age * 10;
	fdb_flush(guests->fdb, guests->rcu, is_old, &age);
	/* Those that were in the middle of a message when there was a place for them. */
	pthread_mutex_lock(&guests->mutex);
	guests_clear_vlans(guests);
	pthread_mutex_unlock(&guests->mutex);
}
