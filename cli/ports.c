/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_kvargs.h>

#include "cli/port_keys.h"
#include "cli/ports.h"
#include "cli/ports_file.h"

bool
port_is_trunk(const struct port_settings *port)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(port->trunk.word); i++) {
		if (port->trunk.word[i] != 0)
			return true;
	}
	return false;
}

bool
port_in_domain(const struct port_settings *port, uint16_t vlan)
{
	if (vlan == 0)
		return port->vlan == 0 && !port_is_trunk(port);
	return port->vlan == vlan || vlan_set_has(&port->trunk, vlan);
}

const char *
ports_where(const struct ports_config *ports, const struct port_settings *port, char *text,
	size_t size)
{
	if (port->from_file)
		snprintf(text, size, "%.200s: [port %s]", ports->file, port->name);
	else
		snprintf(text, size, "--port %s", port->name);
	return text;
}

const struct port_settings *
ports_find(const struct ports_config *ports, const char *name)
{
	unsigned int i;

	for (i = 0; i < ports->n; i++) {
		if (strcmp(ports->port[i].name, name) == 0)
			return &ports->port[i];
	}
	return NULL;
}

/*
 * What rte_kvargs_parse() would pass over in silence: empty pieces, keys and values, a second "=",
 * and a "[", which makes it look for the end of a list.
 */
static int
check_pairs(const char *text, struct error_line *error)
{
	const char *piece = text;
	unsigned int n = 0;

	for (;;) {
		int len = (int)strcspn(piece, ",");
		const char *equals = memchr(piece, '=', len);

		if (equals == NULL || equals == piece || equals == piece + len - 1)
			return error_set(error, -EINVAL, "--port %.100s: '%.*s' is not KEY=VALUE: "
				"it must have a key and a value, with a comma to the next", text,
				RTE_MIN(len, 64), piece);
		if (memchr(equals + 1, '=', piece + len - equals - 1) != NULL ||
				memchr(piece, '[', len) != NULL)
			return error_set(error, -EINVAL, "--port %.100s: '%.*s' has a character "
				"that a value can have only in a file: '=' or '['", text,
				RTE_MIN(len, 64), piece);
		n++;
		if (piece[len] == '\0')
			break;
		piece += len + 1;
	}
	if (n > RTE_KVARGS_MAX)
		return error_set(error, -EINVAL, "--port %.100s: it has %u keys: it must have at "
			"most %u", text, n, RTE_KVARGS_MAX);
	return 0;
}

static int
set_pairs(struct key_place *place, const struct rte_kvargs *pairs)
{
	unsigned int i;
	int ret;

	for (i = 0; i < pairs->count; i++) {
		ret = port_keys_set(place, pairs->pairs[i].key, pairs->pairs[i].value);
		if (ret < 0)
			return ret;
	}
	return port_keys_complete(place);
}

/* One --port. */
static int
add_argument(struct ports_config *ports, const char *text, struct error_line *error)
{
	char where[128];
	struct key_place place = { .where = where, .settings = &ports->port[ports->n],
		.error = error };
	struct rte_kvargs *pairs;
	const char *name;
	int ret = check_pairs(text, error);

	if (ret < 0)
		return ret;
	pairs = rte_kvargs_parse(text, NULL);
	if (pairs == NULL)
		return error_set(error, -ENOMEM, "--port %.100s cannot be read: %s", text,
			strerror(ENOMEM));
	name = rte_kvargs_get(pairs, "name");
	snprintf(where, sizeof(where), "--port %.100s", name != NULL ? name : text);
	port_keys_preset(&place);
	ret = set_pairs(&place, pairs);
	rte_kvargs_free(pairs);
	ports->n += ret == 0;
	return ret;
}

static bool
share_address(const struct port_settings *a, const struct port_settings *b,
	struct rte_ether_addr *mac)
{
	unsigned int i = 0, j = 0;

	while (i < a->nb_macs && j < b->nb_macs) {
		int order = memcmp(&a->mac[i], &b->mac[j], sizeof(a->mac[i]));

		*mac = a->mac[i];
		if (order == 0)
			return true;
		if (order < 0)
			i++;
		else
			j++;
	}
	return false;
}

/* A domain that two ports are in: its VLAN, 0 for the untagged network. -1: there is none. */
static int
shared_domain(const struct port_settings *a, const struct port_settings *b)
{
	unsigned int i;

	if (port_in_domain(a, 0) && port_in_domain(b, 0))
		return 0;
	if (a->vlan != 0 && port_in_domain(b, a->vlan))
		return a->vlan;
	if (b->vlan != 0 && port_in_domain(a, b->vlan))
		return b->vlan;
	for (i = 0; i < RTE_DIM(a->trunk.word); i++) {
		uint64_t both = a->trunk.word[i] & b->trunk.word[i];

		if (both != 0)
			return (int)(64 * i) + __builtin_ctzll(both);
	}
	return -1;
}

static int
check_pair(const struct ports_config *ports, const struct port_settings *p,
	const struct port_settings *other, struct error_line *error)
{
	char where[256], there[256], domain[32] = "the untagged network";
	struct rte_ether_addr mac;
	int vlan;

	if (strcmp(p->name, other->name) == 0)
		return error_set(error, -EEXIST, "%s: the name is also that of %s: it must be "
			"unique", ports_where(ports, p, where, sizeof(where)),
			ports_where(ports, other, there, sizeof(there)));
	if (strcmp(p->socket, other->socket) == 0)
		return error_set(error, -EEXIST, "%s socket: '%s' is also that of %s: it must be "
			"unique", ports_where(ports, p, where, sizeof(where)), p->socket,
			ports_where(ports, other, there, sizeof(there)));
	if (!share_address(p, other, &mac))
		return 0;
	vlan = shared_domain(p, other);
	if (vlan < 0)
		return 0;
	if (vlan > 0)
		snprintf(domain, sizeof(domain), "VLAN %d", vlan);
	return error_set(error, -EEXIST, "%s mac: " MAC_FMT " is also a static address of %s in "
		"%s: it must be unique there", ports_where(ports, p, where, sizeof(where)),
		RTE_ETHER_ADDR_BYTES(&mac), ports_where(ports, other, there, sizeof(there)),
		domain);
}

static int
check_all(const struct ports_config *ports, struct error_line *error)
{
	unsigned int i, j;
	int ret;

	for (i = 0; i < ports->n; i++) {
		for (j = 0; j < i; j++) {
			ret = check_pair(ports, &ports->port[i], &ports->port[j], error);
			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

struct ports_config *
ports_load(const struct config *cfg, struct error_line *error)
{
	struct ports_config *ports = calloc(1, sizeof(*ports));
	struct key_place place = { .settings = ports, .is_switch = true, .error = error };
	unsigned int i;
	int ret = 0;

	if (ports == NULL) {
		error_set(error, -ENOMEM, "--port and --config cannot be read: %s",
			strerror(ENOMEM));
		return NULL;
	}
	port_keys_preset(&place);
	ports->file = cfg->config_file;
	for (i = 0; i < cfg->nb_ports && ret == 0; i++)
		ret = add_argument(ports, cfg->port[i], error);
	if (ret == 0 && cfg->config_file != NULL)
		ret = ports_file_read(ports, error);
	if (ret == 0)
		ret = check_all(ports, error);
	if (ret == 0)
		return ports;
	ports_free(ports);
	return NULL;
}

void
ports_free(struct ports_config *ports)
{
	free(ports);
}
