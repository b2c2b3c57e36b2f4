/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MAIN_H
#define MAIN_H

/**
 * @file
 * What every room shares: the limits, the configuration and the log types.
 *
 * The configuration is filled once by cli/, before EAL starts, and only read from then on, by
 * any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include <rte_log.h>

/**
 * Frames taken from a ring at once. 32 is what librte_vhost moves in one call
 * (MAX_PKT_BURST in its virtio_net.c): a longer burst would be cut there.
 */
#define BURST_MAX 32

/** Longest frame: an IP packet of 64 KiB, after an Ethernet header with one tag. */
#define FRAME_MAX (65535 + 14 + 4)

/** Guests at once where steering is in software. A NIC's VMDQ pools may allow fewer. */
#define GUEST_MAX 128

/** Device ids: those of guests without a named port come first, then one for each named port. */
#define ID_MAX (GUEST_MAX + PORT_MAX)

/** Guest n without a named port is reached from the uplink with VLAN tag VLAN_TAG_BASE + n. */
#define VLAN_TAG_BASE 1000

/**
 * Sockets given with --socket-file, and the one of --dev-basename. With --client each guest has a
 * socket of its own.
 */
#define SOCKET_MAX (GUEST_MAX + 1)

/** Named ports, from --port and the file of --config together. */
#define PORT_MAX 512

/** printf format of a MAC, for RTE_ETHER_ADDR_BYTES(): lower case, as ip(8) writes it. */
#define MAC_FMT "%02x:%02x:%02x:%02x:%02x:%02x"

/** Where traffic from one guest to another goes (--vm2vm). */
enum vm2vm_mode {
	VM2VM_UPLINK,	/**< to the NIC, like everything else */
	VM2VM_SOFTWARE, /**< straight to the other guest's ring */
	VM2VM_HARDWARE, /**< through the L2 switch inside the NIC */
};

/** How frames from the NIC are steered to guests (--steering). */
enum steering_mode {
	STEERING_AUTO,	   /**< by the NIC's VMDQ where it has that, port by port */
	STEERING_VMDQ,
	STEERING_SOFTWARE,
};

/** The command line, checked. Numbers are unsigned so that one parser serves all of them. */
struct config {
	uint64_t port_mask;	  /**< -p; 0: no uplink */
	bool port_mask_given;	  /**< -p was there */
	uint64_t mirror_mask;	  /**< --mirror-port; 0: none */
	bool promiscuous;	  /**< -P */
	const char *dev_basename; /**< --dev-basename, NULL: not given */
	const char *socket_file[SOCKET_MAX];
	unsigned int nb_socket_files;
	const char *port[PORT_MAX]; /**< --port, as they were given; see cli/ports.h */
	unsigned int nb_ports;
	const char *config_file; /**< --config, NULL: not given */
	bool has_untagged;    /**< one of these ports is in the untagged network */
	uint32_t socket_uid;  /**< --socket-owner, UINT32_MAX: the process's */
	uint32_t socket_gid;  /**< the same */
	uint32_t socket_mode; /**< --socket-mode, UINT32_MAX: what the umask leaves */
	bool client;
	uint32_t vm2vm; /**< enum vm2vm_mode */
	uint32_t mergeable;
	uint32_t stats_period; /**< seconds, 0: off */
	uint32_t rx_retry;
	uint32_t rx_retry_num;
	uint32_t rx_retry_delay; /**< microseconds */
	uint32_t vlan_strip;
	uint32_t tso;
	uint32_t tx_csum;
	uint32_t steering; /**< enum steering_mode */
	uint32_t dcb; /**< traffic classes per guest: 0, 4 or 8 */
	uint32_t total_num_mbufs; /**< 0: computed */
	bool help;
	bool version;

	/* CUSE, without VHOST_CUSE NULL and false */
	const char *cuse_devnum; /**< --cuse-devnum, NULL: not given */
	bool eventfd_link;	 /**< --eventfd-link */
	const char *cuse_socket; /**< between /dev/NAME and librte_vhost, NULL: no device */
};

/** Whether there are named ports, or a reload may bring some. */
static inline bool
config_has_ports(const struct config *cfg)
{
	return cfg->nb_ports > 0 || cfg->config_file != NULL;
}

/** @name Log types: the prefix of a line is the name after RTE_LOGTYPE_. */
/**@{*/
extern int log_type_config, log_type_data, log_type_uplink;
#define RTE_LOGTYPE_CONFIG log_type_config
#define RTE_LOGTYPE_DATA log_type_data
#define RTE_LOGTYPE_UPLINK log_type_uplink
/**@}*/

#endif /* MAIN_H */
