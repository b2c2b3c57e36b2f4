/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef UPLINK_LINK_H
#define UPLINK_LINK_H

/**
 * @file
 * What a port's link is just now, and what the port can send: for the uplink and the mirror port.
 *
 * A driver for a card knows its link. The drivers for interfaces of the kernel do not: af_packet,
 * pcap and af_xdp report "up" for an interface that is down or deleted, and tap looks its interface
 * up by name, which fails once the interface is in another network namespace. So the kernel is
 * asked instead: for an interface that packet sockets are bound to by its index, for a TAP by the
 * descriptor of /dev/net/tun, which answers from any namespace.
 *
 * Drivers also differ in what they do with a frame that is too long: tap and pcap stop at it,
 * af_packet frees it without a word, and the kernel drops what is longer than the interface's MTU.
 * So the longest frame that will really be sent is kept here, and frames are held against it before
 * the driver sees them (switch/output.c).
 *
 * Threads: opened and closed by the main thread while no worker runs, updated by the control loop.
 * Workers read frame_max once a burst.
 */

#include <stdbool.h>
#include <stdint.h>

#include <net/if.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

/**
 * The shortest frame that is given to a wire, without FCS: IEEE 802.3-2018, 3.2.8. A tag that is in
 * the frame already counts, as it does in Linux; one that the NIC inserts comes on top.
 */
#define FRAME_MIN (RTE_ETHER_MIN_LEN - RTE_ETHER_CRC_LEN)

/** A port's link. Constant once open, but for what is marked. */
struct port_link {
	const char *name; /**< of the port in log lines: "port" or "mirror port" */
	uint16_t port;
	bool one_segment; /**< the driver sends nothing but the first segment of a chain */
	bool skips_frames; /**< when it does not accept a frame, it may accept the next one */
	bool has_queue;	   /**< not accepting a frame can mean a full queue */
	bool inserts_tags; /**< a frame can become a tag longer in the driver */
	int if_index;	   /**< packet sockets of the driver are bound to it; 0: none are */
	char if_name[IF_NAMESIZE];
	bool cut_seen;	     /**< it delivered a frame without its end; atomic, a worker's */
	bool cut_logged;     /**< and that was logged; control loop */
	int *socket_fd;	     /**< those packet sockets, which are the driver's */
	unsigned int nb_sockets;
	bool has_tx_ring;    /**< the driver leaves frames in a ring until its next burst */
	int tun_fd;	     /**< a TAP's, which is the driver's; -1: none */
	int query_fd;	     /**< socket for ioctls, -1: none */
	int notify_fd;	     /**< the kernel's news of interfaces, -1: none */
	bool gone;	     /**< the interface was deleted or moved away; control loop */
	uint32_t frame_min;  /**< bytes that a shorter frame is padded to */
	uint32_t driver_max; /**< bytes of the longest frame that the driver sends, tag included */
	uint32_t mbps;	     /**< 0: down; atomic */
	uint32_t frame_max;  /**< bytes of the longest frame, untagged; 0: link down; atomic */
};

/**
 * Begin to watch a port that has been started. Main thread.
 *
 * @param[out] link to be closed with port_link_close(); the link counts as down until the first
 *	port_link_update()
 * @param name of the port in log lines, constant
 * @param port DPDK's number of the port
 */
void port_link_open(struct port_link *link, const char *name, uint16_t port);

/**
 * Look at the link, and log a line when it has come or gone. Main thread or control loop.
 *
 * @param link an open link
 * @return whether it is up
 */
bool port_link_update(struct port_link *link);

/**
 * Stop watching. Main thread, before the port is closed.
 *
 * @param link an open link, or one that is all zero
 */
void port_link_close(struct port_link *link);

/** port_fit() where the frame is not simply one that fits. */
int port_fit_slow(const struct port_link *link, uint32_t frame_max, struct rte_mbuf *m);

/**
 * Make a frame one that the port can send: pad it, and put it into one segment where the driver
 * needs that. Called by a worker, with a frame that no one else holds.
 *
 * @param link where it goes
 * @param frame_max link->frame_max, as read for the burst; not 0
 * @param m the frame, of at least an Ethernet header; unsegmented TCP is held against the limit by
 *	the length of its segments
 * @return 0; -EMSGSIZE when it is longer than the port can send
 */
static inline int
port_fit(const struct port_link *link, uint32_t frame_max, struct rte_mbuf *m)
{
	uint32_t len = rte_pktmbuf_pkt_len(m);

	if (likely(len >= link->frame_min && len <= frame_max && m->nb_segs == 1))
		return 0;
	return port_fit_slow(link, frame_max, m);
}

#endif /* UPLINK_LINK_H */
