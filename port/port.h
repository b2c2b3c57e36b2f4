/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_PORT_H
#define PORT_PORT_H

/**
 * @file
 * Named ports: places on the switch that outlive whoever is connected.
 *
 * A port has a slot of the table, and with it a device id, from the reload that adds it until its
 * guest has gone after the reload that removes it. Its settings are those of the list that is in
 * use (cli/ports.h): a reload replaces the rules of all ports and, after a grace period, frees the
 * list before.
 *
 * Workers reach a port by its guest, and its rules by the port. Sets of guests for each domain are
 * replaced when a guest joins or leaves and when a reload has changed who belongs where.
 *
 * Written by the vhost thread (a guest joins and leaves) and by the control loop (reload), under
 * the guest table's mutex.
 */

#include <stdbool.h>
#include <stdint.h>

#include "port/domain.h"
#include "port/fdb.h"

struct guest;
struct guest_set;
struct guests;
struct vhost_socket;

/** Tenths of a second for which an address must have been silent to give way to another. */
#define ADDRESS_SILENCE 20

/** Addresses that are learned at the uplink, in all domains. */
#define UPLINK_ADDRESS_MAX 8192

/** A named port. Of a port that is in use rules is never NULL. */
struct port {
	const struct port_rules *rules; /**< atomic, replaced under RCU */
	struct guest *guest;	     /**< who is connected; under the mutex */
	struct vhost_socket *socket; /**< by which guests come; the control loop's own */
	uint16_t id;		     /**< device id */
	bool in_use;		     /**< under the mutex */
	bool removed;		     /**< no guest may join any more; under the mutex */
	char name[PORT_NAME_SIZE];
	/* What a removed port has in the place of its list's, until its guest has gone. */
	struct port_settings last_settings;
	struct port_rules last_rules;
};

/** A list of ports in use, and what workers read of it. */
struct port_list {
	struct ports_config *config;
	struct port_rules rules[PORT_MAX]; /**< of config->port of the same index */
};

/** All named ports. */
struct ports {
	bool in_use;		      /**< there may be named ports; constant while workers run */
	bool flood_unknown;	      /**< of [switch]; atomic */
	uint32_t reloads;	      /**< lists that were used; the control loop's own */
	struct port_list *list;	      /**< the control loop's own */
	struct port port[PORT_MAX];
	uint64_t has_port[DOMAIN_NUM / 64]; /**< domains that a port is in, as bits; atomic */
	struct guest_set *domain[DOMAIN_NUM]; /**< guests that are connected, NULL: none; atomic */
};

/** Whether a named port is in a domain, connected or not. Any thread. */
static inline bool
ports_have_domain(const struct ports *ports, uint16_t domain)
{
	return __atomic_load_n(&ports->has_port[domain / 64], __ATOMIC_RELAXED) &
		RTE_BIT64(domain % 64);
}

/** The rules of a port, for a worker until its next quiescent state. */
static inline const struct port_rules *
port_rules(const struct port *p)
{
	return __atomic_load_n(&p->rules, __ATOMIC_ACQUIRE);
}

/**
 * Use a list: remove and change ports. Guests of removed ports are to be disconnected by the
 * caller afterwards, which gives their slots back; then those that are new are to be added by
 * ports_add(). A domain is theirs from now on. Control loop, or the main thread before workers run.
 *
 * @param guests the table
 * @param config the list, which belongs to the ports from now on
 * @param changes what is not the same as before, NULL: this is the first list
 * @return 0, or -ENOMEM with nothing changed
 */
int ports_apply(struct guests *guests, struct ports_config *config,
	const struct ports_changes *changes);

/**
 * Add a port of the list in use. Control loop, or the main thread before workers run.
 *
 * @param guests the table
 * @param settings the port's, in the list
 */
void ports_add(struct guests *guests, const struct port_settings *settings);

/**
 * The port of a name that is in use and not removed. Under the mutex or by the control loop.
 *
 * @param ports the table
 * @param name its name
 * @return the port or NULL
 */
struct port *ports_by_name(struct ports *ports, const char *name);

/**
 * Bring the sets of domains up to date. Under the mutex; waits for a grace period.
 *
 * @param guests the table
 * @param rules domains that these name, NULL: all
 */
void ports_publish(struct guests *guests, const struct port_rules *rules);

/**
 * Forget addresses of a port. Under the mutex; waits for a grace period.
 *
 * @param guests the table
 * @param p the port
 * @param is_static those of its settings, else those that it has learned
 */
void ports_forget(struct guests *guests, const struct port *p, bool is_static);

/**
 * Free all. Main thread, when workers and sockets are gone.
 *
 * @param ports the table
 */
void ports_release(struct ports *ports);

#endif /* PORT_PORT_H */
