/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CLI_PORTS_H
#define CLI_PORTS_H

/**
 * @file
 * Named ports as the administrator wants them: the settings of --port and of the file of --config.
 *
 * One table (port_keys.c) holds a row for each key: its name, the values it accepts, its default,
 * its help text, the member that it sets, and whether a running port can change it. Both parsers,
 * the usage, the comparison and bash's completion come from that row, so a new key is one new row.
 *
 * The settings are values without any state of the switch: they are read at start, and again
 * while it runs, into a new list each time. A list is complete and checked, or there is none. It is
 * constant from then on, and whoever publishes it to other threads sees to their lifetime.
 *
 * Thread-safety: the functions here have no state of their own and may be called by any thread but
 * workers, since they read files and allocate by malloc(3).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_bitops.h>
#include <rte_ether.h>

#include "cli/error.h"
#include "main.h"

/** Length of a port's name, with the zero after it. */
#define PORT_NAME_SIZE 32

/** Length of a socket's path, with the zero after it: sun_path of struct sockaddr_un. */
#define PORT_SOCKET_SIZE 108

/** Static addresses of a port. */
#define PORT_MAC_MAX 64

/** VLANs that a tag can name; 1 to 4094 are ones to use. */
#define VLAN_NUM 4096

/** The keys, in the order of the usage; of the section [switch] from SWITCH_KEY_FIRST on. */
enum port_key {
	PORT_KEY_NAME,
	PORT_KEY_SOCKET,
	PORT_KEY_MODE,
	PORT_KEY_VLAN,
	PORT_KEY_TRUNK,
	PORT_KEY_MAC,
	PORT_KEY_LEARN,
	PORT_KEY_SOURCE_CHECK,
	PORT_KEY_FLOOD,
	PORT_KEY_ISOLATED,
	PORT_KEY_RATE,
	PORT_KEY_RATE_TO,
	PORT_KEY_FRAMES,
	PORT_KEY_STORM,
	PORT_KEY_LINK,
	PORT_KEY_OFFLOAD,
	SWITCH_KEY_FIRST,
	SWITCH_KEY_MAC_AGE = SWITCH_KEY_FIRST,
	SWITCH_KEY_FLOOD_UNKNOWN,
	PORT_KEY_MAX
};

/** A set of VLANs. */
struct vlan_set {
	uint64_t word[VLAN_NUM / 64]; /**< VLAN v is bit v % 64 of word v / 64 */
};

/** What one named port is to be. */
struct port_settings {
	char name[PORT_NAME_SIZE];
	char socket[PORT_SOCKET_SIZE];
	bool from_file;	   /**< from --config, else from --port */
	bool client;	   /**< mode: connect to a socket that the guest serves */
	bool source_check; /**< drop frames from other sources than the port's addresses */
	bool flood;	   /**< gets unknown unicast of its domain */
	bool isolated;	   /**< reaches no other isolated port */
	bool link_up;	   /**< else nothing goes in or out */
	bool offload;	   /**< offer checksum and segmentation offload, mergeable buffers */
	uint16_t vlan;	   /**< untagged in the guest and tagged so on the uplink; 0: none */
	uint16_t nb_macs;
	uint32_t learn;	       /**< dynamic addresses at most */
	uint64_t rate;	       /**< bits per second from the guest, 0: no limit */
	uint64_t rate_to;      /**< bits per second to the guest, 0: no limit */
	uint64_t frames;       /**< frames per second from the guest, 0: no limit */
	uint64_t storm;	       /**< frames per second to many or unknown, 0: no limit */
	struct vlan_set trunk; /**< tagged in the guest; @ref vlan may be one of them */
	struct rte_ether_addr mac[PORT_MAC_MAX]; /**< static, in ascending order */
};

/** All named ports, and the settings of the section [switch]. */
struct ports_config {
	const char *file;   /**< of --config, for error lines; NULL: none */
	uint32_t mac_age;   /**< seconds until a dynamic address is forgotten */
	bool flood_unknown; /**< unknown unicast goes to ports too, not to the uplink alone */
	unsigned int n;
	struct port_settings port[PORT_MAX];
};

/** What became of a port between two lists. */
enum port_change_kind {
	PORT_REMOVED,  /**< before alone is set */
	PORT_REPLACED, /**< a removal and an addition: a key changed that stays while a port runs */
	PORT_CHANGED,  /**< in place, its guest stays connected */
	PORT_ADDED,    /**< after alone is set */
};

/** One port that is not the same in two lists. */
struct port_change {
	enum port_change_kind kind;
	uint32_t keys; /**< RTE_BIT32() of each enum port_key that changed; 0: added or removed */
	const struct port_settings *before, *after;
};

/** What is not the same in two lists. Ports that are the same are not mentioned. */
struct ports_changes {
	uint32_t switch_keys; /**< RTE_BIT32() of each key of [switch] that changed */
	unsigned int added, removed, changed; /**< a replaced port is an added and a removed one */
	unsigned int n;
	struct port_change port[2 * PORT_MAX]; /**< in the order of enum port_change_kind */
};

/** Whether a VLAN is in a set. Any thread. */
static inline bool
vlan_set_has(const struct vlan_set *set, uint16_t vlan)
{
	return (set->word[vlan / 64] & RTE_BIT64(vlan % 64)) != 0;
}

/** Whether a port is a trunk: its guest has tagged frames. Any thread. */
bool port_is_trunk(const struct port_settings *port);

/**
 * Whether a port is in a domain: with its native VLAN or those of its trunk, or with neither in the
 * untagged network. A trunk without a native VLAN is not in the untagged network. Any thread.
 *
 * @param port the port
 * @param vlan 1 to 4094, 0: the untagged network
 */
bool port_in_domain(const struct port_settings *port, uint16_t vlan);

/**
 * Read and check the ports of --port and --config. Starts, makes and deletes nothing; whether
 * sockets can be made is sockets_check_ports(). At start, and by the control loop to read again.
 *
 * @param cfg the command line; its strings must outlive the list
 * @param[out] error one line if there is no list: what was wrong and where
 * @return the list, perhaps of no port, for ports_free(); NULL if anything was wrong
 */
struct ports_config *ports_load(const struct config *cfg, struct error_line *error);

/**
 * Free a list. Any thread.
 *
 * @param ports the list, or NULL
 */
void ports_free(struct ports_config *ports);

/**
 * Say where a port is set, as error lines begin: "--port web", "ports.conf: [port web]".
 *
 * @param ports the list
 * @param port a port of it
 * @param[out] text where it goes
 * @param size bytes of @p text; 256 are enough
 * @return @p text
 */
const char *ports_where(const struct ports_config *ports, const struct port_settings *port,
	char *text, size_t size);

/**
 * Find a port by its name. Any thread.
 *
 * @param ports the list
 * @param name the name
 * @return the port, or NULL
 */
const struct port_settings *ports_find(const struct ports_config *ports, const char *name);

/**
 * Compare two lists by the names of their ports. First remove what is removed and replaced, then
 * change, then add: sockets and addresses may go from one port to another.
 *
 * @param before the list in use
 * @param after the list to use; both must outlive @p changes
 * @param[out] changes what is not the same
 */
void ports_compare(const struct ports_config *before, const struct ports_config *after,
	struct ports_changes *changes);

/**
 * Sum up a comparison for the log: "2 ports added, 1 removed, 3 changed".
 *
 * @param changes the comparison
 * @param[out] text where it goes
 * @param size bytes of @p text; 64 are enough
 * @return @p text
 */
const char *ports_changes_text(const struct ports_changes *changes, char *text, size_t size);

#endif /* CLI_PORTS_H */
