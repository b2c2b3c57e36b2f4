/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_kvargs.h>

#include "main.h"
#include "uplink/vlan.h"
#include "uplink/link.h"

/* The longest frame of a guest is 64 KiB of IP and its headers: no limit of a port. */
#define NO_LIMIT (UINT16_MAX + RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN)

/* net_af_packet: bytes of its ring's frames unless framesz= says otherwise (DFLT_FRAME_SIZE). */
#define AF_PACKET_FRAME 2048

/* net_tap: what it adds to its MTU for the longest frame (pmd_tx_burst()). */
#define TAP_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN + RTE_VLAN_HLEN)

/* net_pcap: its longest frame in several segments (RTE_ETH_PCAP_SNAPLEN). */
#define PCAP_MAX 65535

/* Copy the value of a device argument. Whether it was given. */
static bool
find_argument(const struct rte_eth_dev_info *info, const char *key, char *value, size_t size)
{
	const struct rte_devargs *given = rte_dev_devargs(info->device);
	struct rte_kvargs *args;
	const char *found;

	if (given == NULL || given->args == NULL)
		return false;
	args = rte_kvargs_parse(given->args, NULL);
	if (args == NULL)
		return false;
	found = rte_kvargs_get(args, key);
	if (found != NULL)
		snprintf(value, size, "%s", found);
	rte_kvargs_free(args);
	return found != NULL;
}

/* Whether a descriptor is a TAP of that name. */
static bool
is_tun(const struct port_link *link, int fd)
{
	char path[32], target[32] = "";
	struct ifreq ifr = { 0 };

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target) - 1) > 0 &&
		strcmp(target, "/dev/net/tun") == 0 && ioctl(fd, TUNGETIFF, &ifr) == 0 &&
		strcmp(ifr.ifr_name, link->if_name) == 0;
}

/* Whether a descriptor is a packet socket that is bound to the interface. */
static bool
is_bound(const struct port_link *link, int fd)
{
	struct sockaddr_ll at = { 0 };
	socklen_t len = sizeof(at);

	return getsockname(fd, (struct sockaddr *)&at, &len) == 0 && at.sll_family == AF_PACKET &&
		at.sll_ifindex == link->if_index;
}

/* Find descriptors that the driver has opened: DPDK has no call that gives them. */
static void
find_descriptors(struct port_link *link)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int *more;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		int fd = atoi(entry->d_name);

		if (link->if_index == 0 && is_tun(link, fd))
			link->tun_fd = fd;
		if (link->if_index == 0 || !is_bound(link, fd))
			continue;
		more = realloc(link->socket_fd, (link->nb_sockets + 1) * sizeof(*more));
		if (more == NULL)
			break;
		link->socket_fd = more;
		link->socket_fd[link->nb_sockets++] = fd;
	}
	if (dir != NULL)
		closedir(dir);
}

/* Hear of changes at once; without this they are seen when the link is looked at next. */
static int
open_notify(void)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&to, sizeof(to)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* The interface that packet sockets of the driver are bound to, 0 where there is none. */
static int
bound_interface(const struct rte_eth_dev_info *info)
{
	char name[IF_NAMESIZE];

	if (info->if_index > 0)
		return (int)info->if_index;
	if (find_argument(info, "tx_iface", name, sizeof(name)) ||
			find_argument(info, "rx_iface", name, sizeof(name)) ||
			find_argument(info, "rx_iface_in", name, sizeof(name)))
		return (int)if_nametoindex(name);
	return 0;
}

static void
open_bound(struct port_link *link, const struct rte_eth_dev_info *info)
{
	char text[16];

	link->if_index = bound_interface(info);
	if (strcmp(info->driver_name, "net_af_packet") == 0) {
		uint32_t frame = AF_PACKET_FRAME;

		if (find_argument(info, "framesz", text, sizeof(text)))
			frame = (uint32_t)atoi(text);
		link->driver_max = frame - (TPACKET2_HDRLEN - sizeof(struct sockaddr_ll));
		link->has_tx_ring = true;
	} else if (strcmp(info->driver_name, "net_pcap") == 0) {
		link->driver_max = PCAP_MAX;
		link->has_queue = false;
	}
	if (link->if_index == 0)
		return; /* files */
	if_indextoname((unsigned int)link->if_index, link->if_name);
	find_descriptors(link);
	link->query_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	link->notify_fd = open_notify();
}

static void
open_tap(struct port_link *link, const struct rte_eth_dev_info *info)
{
	char remote[IF_NAMESIZE];
	bool is_driver = strcmp(info->driver_name, "net_tap") == 0;
	uint16_t mtu;

	if (is_driver) { /* it writes to the kernel, frame by frame */
		link->has_queue = false;
		if (rte_eth_dev_get_mtu(link->port, &mtu) == 0)
			link->driver_max = mtu + TAP_OVERHEAD;
	}
	if (info->if_index > 0)
		if_indextoname(info->if_index, link->if_name);
	else
		find_argument(info, "iface", link->if_name, sizeof(link->if_name));
	/* The link of remote= is what counts then, and the driver looks at that. */
	if (link->if_name[0] == '\0' || find_argument(info, "remote", remote, sizeof(remote)))
		return;
	find_descriptors(link);
	link->notify_fd = open_notify();
}

static bool
is_one_of(const char *name, const char *const *list, unsigned int n)
{
	while (n > 0) {
		if (strcmp(name, list[--n]) == 0)
			return true;
	}
	return false;
}

void
port_link_open(struct port_link *link, const char *name, uint16_t port)
{
	static const char *const bound[] = { "net_af_packet", "net_pcap", "net_af_xdp" };
	static const char *const tap[] = { "net_tap", "net_virtio_user" };
	/* These send all segments, and do not say so. */
	static const char *const chained[] = { "net_pcap", "net_null" };
	struct rte_eth_dev_info info;

	*link = (struct port_link){ .name = name, .port = port, .tun_fd = -1, .query_fd = -1,
		.notify_fd = -1, .has_queue = true, .frame_min = FRAME_MIN,
		.driver_max = NO_LIMIT };
	if (rte_eth_dev_info_get(port, &info) < 0)
		return;
	link->inserts_tags = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	link->one_segment = !(info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) &&
		!is_one_of(info.driver_name, chained, RTE_DIM(chained));
	/* A card's queue takes any frame or is full. */
	link->skips_frames = strcmp(rte_bus_name(rte_dev_bus(info.device)), "vdev") == 0;
	if (!link->skips_frames && info.max_rx_pktlen > RTE_ETHER_MAX_LEN)
		link->driver_max = info.max_rx_pktlen - RTE_ETHER_CRC_LEN;
	if (is_one_of(info.driver_name, bound, RTE_DIM(bound)))
		open_bound(link, &info);
	else if (is_one_of(info.driver_name, tap, RTE_DIM(tap)))
		open_tap(link, &info);
}

/* Read the kernel's news, which are a reason to look, and one thing to remember. */
static void
read_news(struct port_link *link)
{
	char buf[8192] __rte_aligned(NLMSG_ALIGNTO);
	const struct nlmsghdr *h;
	ssize_t len;

	while (link->notify_fd >= 0 && ((len = recv(link->notify_fd, buf, sizeof(buf), 0)) > 0 ||
			errno == ENOBUFS)) {
		for (h = (const struct nlmsghdr *)buf; len > 0 && NLMSG_OK(h, (size_t)len);
				h = NLMSG_NEXT(h, len)) {
			const struct ifinfomsg *info = NLMSG_DATA(h);

			/* AF_BRIDGE: it left a bridge */
			if (h->nlmsg_type == RTM_DELLINK && info->ifi_family == AF_UNSPEC &&
					link->if_index > 0 && info->ifi_index == link->if_index)
				link->gone = true;
		}
	}
}

/*
 * Whether an interface that sockets are bound to is up, and its MTU. One that has gone unbinds
 * them: not even the same interface brings them back.
 */
static bool
ask_bound(struct port_link *link, uint32_t *mtu)
{
	struct ifreq ifr = { .ifr_ifindex = link->if_index };
	short flags;

	if (!link->gone && ioctl(link->query_fd, SIOCGIFNAME, &ifr) < 0)
		link->gone = errno == ENODEV || errno == ENXIO;
	if (link->gone || ioctl(link->query_fd, SIOCGIFFLAGS, &ifr) < 0)
		return false;
	flags = ifr.ifr_flags;
	if (ioctl(link->query_fd, SIOCGIFMTU, &ifr) == 0)
		*mtu = (uint32_t)ifr.ifr_mtu;
	return (flags & IFF_UP) && (flags & IFF_RUNNING);
}

/* Whether a TAP is up: it can be written to then, and is in error when it has been deleted. */
static bool
ask_tap(struct port_link *link)
{
	struct pollfd fd = { .fd = link->tun_fd, .events = POLLOUT };

	if (poll(&fd, 1, 0) < 0)
		return true;
	link->gone = fd.revents & POLLERR;
	return !link->gone && (fd.revents & POLLOUT);
}

/*
 * An interface that was down has left an error in its sockets, which the next frame would get
 * instead of being sent. And what a driver has left in its ring, for want of room in the kernel,
 * leaves now and not with a next burst that may never come.
 */
static void
refresh_sockets(const struct port_link *link)
{
	unsigned int i;
	int error;

	for (i = 0; i < link->nb_sockets; i++) {
		socklen_t len = sizeof(error);

		if (getsockopt(link->socket_fd[i], SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
				link->has_tx_ring)
			sendto(link->socket_fd[i], NULL, 0, MSG_DONTWAIT, NULL, 0);
	}
}

/* Speed in Mbit/s, 0: down; and what the interface's MTU is, where that is a limit. */
static uint32_t
ask(struct port_link *link, uint32_t *mtu)
{
	struct rte_eth_link state = { 0 };
	bool known = rte_eth_link_get_nowait(link->port, &state) == 0;
	bool up = !known || state.link_status == RTE_ETH_LINK_UP;

	if (link->query_fd >= 0)
		up = ask_bound(link, mtu);
	else if (link->tun_fd >= 0)
		up = ask_tap(link);
	if (!up)
		return 0;
	return state.link_speed > 0 ? state.link_speed : RTE_ETH_SPEED_NUM_UNKNOWN;
}

/*
 * The longest frame of an up link, without an 802.1Q tag: the kernel sends one with a tag of 4
 * bytes more. A TAP's MTU is none of the sender's: the kernel receives what is sent there.
 */
static uint32_t
longest_frame(const struct port_link *link, uint32_t mtu)
{
	uint32_t longest = link->driver_max - (link->inserts_tags ? RTE_VLAN_HLEN : 0);

	return mtu > 0 ? RTE_MIN(longest, mtu + RTE_ETHER_HDR_LEN) : longest;
}

static void
log_change(const struct port_link *link, uint32_t mbps)
{
	if (mbps > 0)
		RTE_LOG(INFO, UPLINK, "%s %u: link up, %s\n", link->name, link->port,
			rte_eth_link_speed_to_str(mbps));
	else if (link->gone)
		RTE_LOG(WARNING, UPLINK, "%s %u: link down, interface %s is gone: start the switch "
			"again when it is back\n", link->name, link->port, link->if_name);
	else
		RTE_LOG(WARNING, UPLINK, "%s %u: link down\n", link->name, link->port);
}

bool
port_link_update(struct port_link *link)
{
	bool was_gone = link->gone, was_up = link->mbps > 0;
	uint32_t mtu = 0, mbps;

	read_news(link);
	if (!link->cut_logged && __atomic_load_n(&link->cut_seen, __ATOMIC_RELAXED)) {
		link->cut_logged = true;
		RTE_LOG(WARNING, UPLINK, "%s %u: truncated frames arrive: the sender leaves "
			"segmentation to the card, so run there: ethtool -K NAME tx off\n",
			link->name, link->port);
	}
	mbps = ask(link, &mtu);
	if (mbps > 0)
		refresh_sockets(link);
	__atomic_store_n(&link->mbps, mbps, __ATOMIC_RELAXED);
	__atomic_store_n(&link->frame_max, mbps > 0 ? longest_frame(link, mtu) : 0,
		__ATOMIC_RELAXED);
	if ((mbps > 0) != was_up || (link->gone && !was_gone))
		log_change(link, mbps);
	return mbps > 0;
}

void
port_link_close(struct port_link *link)
{
	const int fd[] = { link->query_fd, link->notify_fd };
	unsigned int i;

	if (link->name == NULL)
		return;
	for (i = 0; i < RTE_DIM(fd); i++) {
		if (fd[i] >= 0)
			close(fd[i]);
	}
	free(link->socket_fd);
	link->name = NULL;
}

int
port_fit_slow(const struct port_link *link, uint32_t frame_max, struct rte_mbuf *m)
{
	uint32_t len = rte_pktmbuf_pkt_len(m), missing;
	bool unsegmented = m->ol_flags & RTE_MBUF_F_TX_TCP_SEG;

	if (unsegmented)
		len = RTE_MIN(len, (uint32_t)(m->l2_len + m->l3_len + m->l4_len + m->tso_segsz));
	if (vlan_in_frame(m))
		frame_max = RTE_MIN(frame_max + RTE_VLAN_HLEN, link->driver_max);
	if (len > frame_max)
		return -EMSGSIZE;
	missing = len < link->frame_min ? link->frame_min - len : 0;
	if (unsegmented || (m->nb_segs > 1 && !link->one_segment && missing == 0))
		return 0;
	if (m->nb_segs > 1 && rte_pktmbuf_linearize(m) < 0)
		return -EMSGSIZE;
	if (missing > 0) {
		char *pad = rte_pktmbuf_append(m, (uint16_t)missing);

		if (pad == NULL)
			return -EMSGSIZE;
		memset(pad, 0, missing);
	}
	return 0;
}
