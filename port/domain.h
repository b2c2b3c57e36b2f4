/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef PORT_DOMAIN_H
#define PORT_DOMAIN_H

/**
 * @file
 * Domains: which ports reach each other, and how a frame of a domain looks in a guest.
 *
 * A VLAN is a domain, the untagged network is one, and guests without a named port are one
 * together. The FDB's keys hold the domain beside the address, so each domain has addresses of its
 * own. In a guest a frame has a tag if its port is a trunk and the VLAN is not the native one; on
 * the uplink it has the tag of its domain, or none in the untagged network.
 *
 * Any thread; rules are constant until the next reload and a grace period after it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cli/ports.h"

/** Domain of guests without a named port. */
#define DOMAIN_SHARED 0

/** Domain of frames without a tag: a VLAN id that no tag may have (IEEE 802.1Q-2018, table 9-2). */
#define DOMAIN_UNTAGGED 4095

/** How many domains there can be; those between are the VLANs of the same number. */
#define DOMAIN_NUM 4096

/** No domain: what a frame asks for is not the port's. */
#define DOMAIN_NONE UINT16_MAX

/** What workers read of a port's settings. */
struct port_rules {
	const struct port_settings *settings;
	uint16_t native; /**< domain of untagged frames; DOMAIN_NONE: they are not allowed */
	bool is_trunk;	 /**< the guest has tagged frames */
	uint32_t reload; /**< number of the list that they are of */
};

/**
 * Work out the rules of a port.
 *
 * @param settings the port's, which must outlive the rules
 * @return the rules
 */
static inline struct port_rules
port_rules_of(const struct port_settings *settings)
{
	struct port_rules r = { .settings = settings, .native = settings->vlan,
		.is_trunk = port_is_trunk(settings) };

	if (settings->vlan == 0)
		r.native = r.is_trunk ? DOMAIN_NONE : DOMAIN_UNTAGGED;
	return r;
}

/** The domain of a frame that the port's guest tags so; not of VLAN 0. */
static inline uint16_t
port_tagged_domain(const struct port_rules *r, uint16_t vlan)
{
	return r->is_trunk && vlan_set_has(&r->settings->trunk, vlan) ? vlan : DOMAIN_NONE;
}

/** Whether a port is in a domain. */
static inline bool
port_has_domain(const struct port_rules *r, uint16_t domain)
{
	return domain == r->native || port_tagged_domain(r, domain) != DOMAIN_NONE;
}

/** The VLAN of the tag that a frame of a domain has in the port's guest; 0: it has none. */
static inline uint16_t
port_tag(const struct port_rules *r, uint16_t domain)
{
	return domain == r->native ? 0 : domain;
}

/** A domain in a key of the FDB. */
static inline uint64_t
domain_key(uint16_t domain)
{
	return (uint64_t)domain << 48;
}

/** The domain of a key of the FDB. */
static inline uint16_t
key_domain(uint64_t key)
{
	return (uint16_t)(key >> 48) & (DOMAIN_NUM - 1);
}

#endif /* PORT_DOMAIN_H */
